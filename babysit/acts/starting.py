"""One start of a run's chain, whoever asks: the intent is written first, and each refusal has its words."""

import contextlib
import threading

import msgspec

from babysit.acts.settle import histories_of
from babysit.acts.visit import ask
from fleet import clock
from fleet.arming.code import CODE_FILE, encode_code
from fleet.arming.place import put_file
from fleet.arming.read_run import read_run
from fleet.arming.start import Launched, launch
from fleet.errors import BabysitError, BoxRefused, Busy, NeedsApproval, NotFound, ProbeUnreadable, StillAlive
from fleet.ledger.ledger import Ledger
from fleet.ledger.unfinished import granted
from fleet.link.base import Link
from fleet.model.probe import Attempt, Cause, Probe, Reachable, RunFacts, Unreachable
from fleet.model.reading import Known
from fleet.model.run import Code, Run
from fleet.text.by_hand import by_hand

_GRACE_S = 15
CALL_S = 30.0
_VERIFY_S = 60.0
_MOMENT_S = 1

# What the chain's first word means when it started nothing: the error, its sentence, the next commands.
_REFUSALS: dict[str, tuple[type[BabysitError], str, tuple[str, ...]]] = {
    "alive": (
        StillAlive,
        "something of {run} lives (pid {text}); nothing was started",
        ("babysit stop {box} {run}",),
    ),
    "budget": (
        NeedsApproval,
        "no start of {run} is left ({text}); nothing was started",
        ("babysit logs {box} {run}", "babysit resume {box} {run} --yes --grant 1"),
    ),
    "busy": (Busy, "another start of {run} is at it ({text})", ("babysit patrol --once",)),
    "unknown": (
        ProbeUnreadable,
        "the box could not prove that nothing of {run} lives ({text}); nothing was started",
        ("babysit patrol --once",),
    ),
    "unwritable": (
        BoxRefused,
        "the box cannot write its records ({text}); nothing was started",
        ("{ssh} df -h", "babysit resume {box} {run}"),
    ),
    "usage": (BabysitError, "the chain was called wrongly ({text})", ()),
}


def start(
    link: Link, ledger: Ledger, run: Run, *, expect: str, state_dir: str, detach: str = "tmux"
) -> Launched:
    """Ask the box for an attempt, quoting what was seen; returns what it answered.

    `detach` is the wish; the box falls back to what it has. Raises LinkError, ProbeUnreadable.
    """
    intent = ledger.intents.begin(run.run_id, "launch", f"start from {expect}", clock.now())
    launched = launch(
        link, state_dir=state_dir, run_id=run.run_id, expect=expect, detach=detach, limit_s=CALL_S + _GRACE_S
    )
    ledger.intents.done(intent, f"{launched.word}: {launched.text}", clock.now())
    return launched


def verified(link: Link, ledger: Ledger, run: Run, launched: Launched) -> Probe:
    """The first probe that shows the attempt and what lives of it, within a minute; else the last one.

    A run that was just started is waited for on the box for a moment: a mistyped command has ended by then,
    and is told as failed while its author is still here.
    """
    deadline = clock.monotonic() + _VERIFY_S
    wait = (run.run_id, _MOMENT_S) if launched.word == "started" else None
    while True:
        seen = ask(link, run.box.name, (run,), histories_of(ledger), wait=wait)
        facts = seen.runs.get(run.run_id) if isinstance(seen, Reachable) else None
        # A dead link answers nothing more, however often it is asked; what could not be read once may be yet.
        dead = isinstance(seen, Unreachable) and seen.cause is not Cause.UNREADABLE
        if (
            _shown(facts)
            or dead
            or launched.word not in ("started", "busy", "already-so")
            or clock.monotonic() > deadline
        ):
            return seen
        threading.Event().wait(0.5)


def _shown(facts: RunFacts | None) -> bool:
    # A look may meet the chain in the very moment in which it takes or leaves its locks: then it looks again.
    match facts:
        case RunFacts(attempt=Known(value=Attempt()), locks=Known(), alive=Known()):
            return True
    return False


def refusal(launched: Launched, run: Run) -> BabysitError | None:
    """Why nothing was started, as an error; None when it was, or was so already."""
    known = _REFUSALS.get(launched.word)
    if known is None:
        return None
    kind, sentence, commands = known
    words = {"run": run.name, "box": run.box.name, "text": launched.text, "ssh": by_hand(run.box)}
    return kind(
        sentence.format_map(words),
        where=run.name,
        next=tuple(command.format_map(words) for command in commands),
    )


def with_code(link: Link, ledger: Ledger, run: Run, code: Code | None, launched: Launched) -> Run:
    """`run` with `code` as what the attempt that was just started runs, kept here and on its box.

    The run itself when nothing was started. A box that cannot keep it is no reason to say that nothing runs.
    """
    number = launched.text.removeprefix("attempt ")
    if code is None or launched.word != "started" or not number.isdecimal():
        return run
    code = msgspec.structs.replace(code, attempt=int(number))
    if run.code == code:
        return run
    run = msgspec.structs.replace(run, code=code)
    ledger.runs.put(run)
    with contextlib.suppress(BabysitError):
        put_file(
            link,
            state_dir=run.box.state_dir,
            run_id=run.run_id,
            name=CODE_FILE,
            content=encode_code(code),
        )
    return run


def allow(link: Link, ledger: Ledger, run: Run, count: int) -> None:
    """`count` more starts for a run whose budget is kept on the box; the intent is written first.

    Raises NotFound, BoxRefused, LinkError.
    """
    before = grants_answered(link, ledger, run)
    wanted = before + count
    intent = ledger.intents.begin(
        run.run_id, "grant", f"raise the budget from {before} to {wanted}", clock.now()
    )
    content = f"{wanted}\n".encode()
    try:
        put_file(link, state_dir=run.box.state_dir, run_id=run.run_id, name="budget", content=content)
    except (BoxRefused, NotFound) as error:  # it answered: the old file is whole
        ledger.intents.done(intent, f"not raised: {error.what}", clock.now())
        raise
    ledger.intents.done(intent, f"the budget is {wanted}", clock.now())


def grants_answered(link: Link, ledger: Ledger, run: Run) -> int:
    """The run's budget on the box, by which every grant that was cut short is closed. As `allow` raises."""
    found = read_run(link, state_dir=run.box.state_dir, run_name_or_id=run.run_id, limit_s=CALL_S)
    if found is None:
        raise NotFound(f"no run {run.run_id} on {run.box.name}", where=run.name)
    for left in ledger.intents.open(run.run_id):
        outcome = granted(left, found.budget, clock.now())
        if outcome is not None:
            ledger.intents.done(left.id, outcome, clock.now())
    return found.budget
