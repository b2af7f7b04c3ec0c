"""Effects whose end nobody wrote down: what the box answers, and what to say until then. Pure."""

from fleet.ledger.rows import Intent
from fleet.model.probe import Locks, RunFacts
from fleet.model.reading import Known
from fleet.text.quote import sh
from fleet.text.say import ago

# No effect of a kind takes as long as this: who began it is gone, and what the box shows is all there is.
# A stop may wait an hour for its grace and as long for a checkpoint.
_OVER_S = {"stop": 3 * 3600.0}
OVER_S = 300.0

# What to type for it, by kind; each is safe to repeat.
_NEXT = {
    "arm": "babysit arm {box} {run}",
    "launch": "babysit resume {box} {run}",
    "stop": "babysit stop {box} {run}",
    "disarm": "babysit disarm {box} {run}",
    "grant": "babysit resume {box} {run}",
    "steer": "babysit ipc {box} list",
}
_CTL_WORDS = 5  # ctl QUEUE PATH on BOX, at the least


def answer(intent: Intent, facts: RunFacts, now: float) -> str | None:
    """How it went, as the run's own records on the box tell; None: they cannot tell, or not yet.

    "It did not happen" is only said of an effect that is over: a living one may still come to it.
    """
    over = is_over(intent, now)
    match intent.kind:
        case "arm":
            return _placed(facts, over=over)
        case "launch":
            return _launched(intent, facts, over=over)
        case "stop":
            return _stopped(intent, facts, over=over)
        case "grant":
            return granted(intent, facts.budget.value, now) if isinstance(facts.budget, Known) else None
    return None


def is_over(intent: Intent, now: float) -> bool:
    """Whether nobody can be at it any more."""
    return now - intent.at > _OVER_S.get(intent.kind, OVER_S)


def _placed(facts: RunFacts, *, over: bool) -> str | None:
    match facts.exists:
        case Known(value=True):
            return "seen on the box: it was placed"
        case Known(value=False) if over:
            return "seen on the box: it was not placed"
    return None


def _launched(intent: Intent, facts: RunFacts, *, over: bool) -> str | None:
    before = _number(intent)
    if before is None or not isinstance(facts.attempt, Known):
        return None
    now_at = facts.attempt.value.number if facts.attempt.value else 0
    if now_at > before:
        return f"seen on the box: attempt {now_at}"
    match facts.locks:
        case Known(value=Locks(chain_held=False)) if over:
            return f"seen on the box: nothing was started after attempt {before}"
    return None


def _stopped(intent: Intent, facts: RunFacts, *, over: bool) -> str | None:
    number = _number(intent)
    if number is None:
        return None
    match facts.end, facts.attempt:
        case Known(value=end), _ if end is not None and end.attempt >= number:
            return f"seen on the box: attempt {end.attempt} ended as {end.state}"
        case _, Known(value=attempt) if attempt is not None and attempt.number > number:
            return f"seen on the box: attempt {attempt.number} came after it"
    match facts.locks:
        case Known(value=Locks(chain_held=True)) if over:
            return f"seen on the box: attempt {number} was not stopped"
    return None


def granted(intent: Intent, budget: int, now: float) -> str | None:
    """How a grant went, by the budget that the box has now; None: that cannot tell, or not yet."""
    wanted = _number(intent)
    if intent.kind != "grant" or wanted is None:
        return None
    if budget >= wanted:
        return f"seen on the box: the budget is {budget}"
    return f"seen on the box: the budget is {budget}, it was not raised" if is_over(intent, now) else None


def _number(intent: Intent) -> int | None:
    """The number that the intent's text ends with: `start from 2:failed`, `stop attempt 2`, `… 3 to 4`."""
    word = intent.text.rpartition(" ")[2].partition(":")[0]
    return int(word) if word.isdigit() else None


def says(intent: Intent, run: str, now: float) -> str:
    """One line for a person. `run` is the run's name."""
    what = intent.text if run in intent.text.split() else f"{run}: {intent.text}"
    return f"unfinished: {what}, {ago(now - intent.at)}: nobody knows whether it happened"


def command(intent: Intent, run: str, box: str) -> str:
    """What to type next."""
    words = intent.text.split()
    if words[:1] == ["ctl"] and len(words) >= _CTL_WORDS:
        return f"babysit ctl {sh(box)} {sh(words[1])} status"
    return _NEXT.get(intent.kind, "babysit resume {box} {run}").format(run=sh(run), box=sh(box))
