"""A look at a run in a word, to be said of it when its box is away. Pure."""

from fleet.model.probe import RunFacts
from fleet.model.reading import Known


def seen_as(facts: RunFacts) -> str | None:
    """The look in a word, None when the records could not be read."""
    match facts:
        case RunFacts(exists=Known(value=False)):
            return "without its folder"
        case RunFacts(attempt=Known(value=None)):
            return "not started yet"
        case RunFacts(attempt=Known(value=attempt), end=Known(value=end)) if (
            attempt and end and end.attempt == attempt.number
        ):
            return {"done": "finished"}.get(end.state, end.state)
        case RunFacts(locks=Known(value=locks), attempt=Known(), end=Known()):
            return "running" if locks.chain_held else "without its chain"
    return None
