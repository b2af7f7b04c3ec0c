"""What may be done about a run, as values; only acts perform them. Pure.

A Resume exists only where one fresh probe proved that nothing of the run lives. It cannot be built from a
box that did not answer, from a reading that is missing, or from a decoded document.
"""

from msgspec import Struct

from fleet.model.probe import Attempt, End, Locks, Probe, RunFacts, Unreachable
from fleet.model.reading import Known, Missing
from fleet.model.run import Run


class _Seal:
    """The proof inside a Resume; made by `resume_proof` alone, for exactly one run and state."""

    __slots__ = ("expect", "run_id")

    def __init__(self, run_id: str, expect: str) -> None:
        self.run_id = run_id
        self.expect = expect


class Resume(Struct, frozen=True):
    """Leave to start the next attempt. `expect` is what the box must still show: `0`, `2`, `2:failed`.

    `seen_at` is host time of the probe. Raises TypeError when it is built elsewhere than in `resume_proof`.
    """

    run_id: str
    expect: str
    seen_at: float
    seal: object

    def __post_init__(self) -> None:
        seal = self.seal
        if not (isinstance(seal, _Seal) and (seal.run_id, seal.expect) == (self.run_id, self.expect)):
            raise TypeError("a Resume is built by resume_proof, from a probe, and nowhere else")


class NotNow(Struct, frozen=True):
    """Why nothing may be started; what to do about it says the verdict of the same look."""

    why: str


def resume_proof(run: Run, probe: Probe) -> Resume | NotNow:
    """Leave to start `run` again, or why not.

    Leave takes all of: the box answered and is the one the run was armed on; its folder, attempt, end
    record, locks and processes were read; both locks are free; nothing lives; it has not finished.
    """
    if isinstance(probe, Unreachable):
        return NotNow("the box did not answer, so nothing is known of what lives there")
    match probe.box.box_id:
        case Known(value=box_id) if run.box_id is not None and box_id != run.box_id:
            return NotNow("another box answers: its id is not the one this run was armed on")
    match probe.runs.get(run.run_id):
        case None:
            return NotNow("the answer of the box holds nothing on this run")
        case RunFacts(exists=Known(value=False)):
            return NotNow("the run's folder is not on the box")
        case RunFacts(
            exists=Known(value=True),
            attempt=Known(value=attempt),
            end=Known(value=end),
            locks=Known(value=Locks() as locks),
            alive=Known(value=alive),
        ):
            return _leave(
                run,
                probe.at,
                _expect(attempt, end),
                lives=locks.chain_held or locks.stage_held or alive != (),
            )
        case facts:
            return NotNow(f"not everything could be read: {_first_missing(facts)}")


def _leave(run: Run, seen_at: float, expect: str | None, *, lives: bool) -> Resume | NotNow:
    if lives:
        return NotNow("something of the run lives")
    if expect is None:
        return NotNow("its records contradict each other: the end record is of a later attempt")
    if expect.endswith(":done"):
        return NotNow("the run has finished")
    return Resume(run.run_id, expect, seen_at, _Seal(run.run_id, expect))


def _expect(attempt: Attempt | None, end: End | None) -> str | None:
    """What the records say, in the words the chain compares; None when they contradict each other."""
    number = attempt.number if attempt else 0
    if end is None or end.attempt < number:
        return str(number)
    return f"{number}:{end.state}" if end.attempt == number else None


def _first_missing(facts: RunFacts) -> str:
    readings = (facts.exists, facts.attempt, facts.end, facts.locks, facts.alive)
    return next((reading.why for reading in readings if isinstance(reading, Missing)), "no reason was given")
