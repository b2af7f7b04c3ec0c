import inspect

import msgspec
import pytest
from hypothesis import given, settings
from unit.patrol.anything import probes
from unit.patrol.build import (
    BOX_ID,
    FREE,
    GONE,
    MISSING,
    NOW,
    alive,
    attempt,
    away,
    box,
    end,
    facts,
    known,
    probe,
    run,
)

import patrol.actions
from fleet.model.probe import Attempt, End, Locks, Reachable
from fleet.model.reading import Known
from patrol.actions import NotNow, Resume, resume_proof

LEAVE = {
    "never started": ({"attempt": known(None), **GONE}, "0"),
    "gone without a record": (GONE, "1"),
    "failed": ({**GONE, "end": known(end("failed", why="exit"))}, "1:failed"),
    "stopped": ({**GONE, "end": known(end("stopped", why="stopped"))}, "1:stopped"),
    "an end of an earlier attempt": ({**GONE, "attempt": known(attempt(3)), "end": known(end("failed", number=2, why="exit"))}, "3"),
    "an earlier attempt had done nothing": ({**GONE, "attempt": known(attempt(2)), "end": known(end("done", number=1))}, "2"),
}  # fmt: skip
REFUSED = {
    "runs": {},
    "only the stage lock is held": {"locks": known(Locks(chain_held=False, stage_held=True)), "alive": alive()},
    "only the chain lock is held": {"locks": known(Locks(chain_held=True, stage_held=False)), "alive": alive()},
    "something lives": {"locks": FREE, "alive": alive(4200)},
    "finished": {**GONE, "end": known(end("done"))},
    "no folder": {**GONE, "exists": known(False)},
    "records went back": {**GONE, "end": known(end("failed", number=2, why="exit"))},
    "an end without an attempt": {**GONE, "attempt": known(None), "end": known(end("failed", why="exit"))},
    **{f"{field} not read": {**GONE, field: MISSING} for field in ("exists", "attempt", "end", "locks", "alive")},
}  # fmt: skip


@pytest.mark.parametrize("case", LEAVE)
def test_leave_is_given_with_what_the_records_say(case):
    changed, expect = LEAVE[case]
    proof = resume_proof(run(), probe(facts(**changed)))
    assert isinstance(proof, Resume)
    assert (proof.run_id, proof.expect, proof.seen_at) == ("train-k3f9", expect, NOW)


@pytest.mark.parametrize("case", REFUSED)
def test_no_leave(case):  # P6
    proof = resume_proof(run(), probe(facts(**REFUSED[case])))
    assert isinstance(proof, NotNow)
    assert proof.why


@pytest.mark.parametrize("seen", [away(), probe(runs={}), probe(facts(**GONE), box(box_id=known("c" * 32)))])
def test_no_leave_from_a_box_that_is_away_silent_or_another(seen):  # P6
    assert isinstance(resume_proof(run(), seen), NotNow)


def test_an_unread_box_id_does_not_forbid_what_the_nonce_already_proves():
    assert isinstance(resume_proof(run(), probe(facts(**GONE), box(box_id=MISSING))), Resume)


def test_a_resume_cannot_be_built_anywhere_else():  # P6
    leave = resume_proof(run(), probe(facts(**GONE)))
    for values in ((None,), (object(),), ("seal",), (patrol.actions._Seal("train-k3f9", "2"),)):
        with pytest.raises(TypeError):
            Resume("train-k3f9", "1", NOW, *values)
    with pytest.raises(TypeError):
        msgspec.structs.replace(leave, expect="0")
    with pytest.raises((msgspec.ValidationError, TypeError)):
        msgspec.json.decode(b'{"run_id":"a","expect":"0","seen_at":1,"seal":{}}', type=Resume)
    with pytest.raises((TypeError, AttributeError)):
        leave.expect = "0"
    with pytest.raises(TypeError):
        msgspec.json.encode(leave)
    makers = [
        line
        for line in inspect.getsource(patrol.actions).split("\n")
        if "_Seal(" in line and "class" not in line
    ]
    assert len(makers) == 1


@settings(max_examples=150, deadline=None)
@given(seen=probes)
def test_nothing_but_full_proof_yields_a_resume(seen):  # P1 P6
    proof = resume_proof(run(), seen)
    given_leave = isinstance(proof, Resume)
    proven = False
    if isinstance(seen, Reachable):
        of = seen.runs["train-k3f9"]
        read = all(
            isinstance(reading, Known) for reading in (of.exists, of.attempt, of.end, of.locks, of.alive)
        )
        same_box = not isinstance(seen.box.box_id, Known) or seen.box.box_id.value == BOX_ID
        if read and same_box and of.exists.value:
            number = of.attempt.value.number if isinstance(of.attempt.value, Attempt) else 0
            ended = of.end.value if isinstance(of.end.value, End) else None
            open_end = (
                ended is None or ended.attempt < number or (ended.attempt == number and ended.state != "done")
            )
            free = not (of.locks.value.chain_held or of.locks.value.stage_held or of.alive.value)
            proven = open_end and free
    assert given_leave == proven
