"""More starts than the budget: written down before the box is told, so that a cut between is never forgotten."""

import msgspec
import pytest
from ledger_samples import a_run
from small_box import SmallBox, small_path

from babysit.acts.starting import allow, grants_answered
from fleet.arming.place import claim
from fleet.errors import BoxRefused, LinkError
from fleet.ledger.ledger import Ledger
from fleet.model.probe import Cause, Unreachable
from fleet.model.spec import RunSpec, Stage

RUN_ID = "train-k3f9"
NONCE = "0123456789abcdef" * 2
PLAN = f"""format=1
run=train
run_id={RUN_ID}
tag={RUN_ID}-0011223344556677
chain=chain-0123abcd.sh
onbox=-
python=-
lockdir=-
cwd=-
spec_digest=00ff
stage=01-train 4503599627370001 fail 1
"""


class Breaks:
    """A link that ends after so many answers: the `after`-th one is lost, though the box did as it was told."""

    def __init__(self, link, after, error=None):
        cut = Unreachable(Cause.CUT, "cut", transient=True, at=0.0, took_s=0.0)
        self._link, self._left, self._error = link, after, error or LinkError(cut, where="gpu1")

    def run(self, script, request, **limits):
        reply = self._link.run(script, request, **limits)
        self._left -= 1
        if self._left <= 0:
            raise self._error
        return reply


@pytest.fixture
def box(tmp_path):
    box = SmallBox(tmp_path / "box", small_path(tmp_path / "bin"))
    files = {
        "plan": PLAN.encode(),
        "spec.json": msgspec.json.encode(RunSpec("train", (Stage("train", "true"),))),
        "nonce": f"{NONCE}\n".encode(),
        "budget": b"3\n",
    }
    claim(
        box.link(),
        state_dir=None,
        run_name="train",
        run_id=RUN_ID,
        files=files,
        expect_owner=None,
        limit_s=30,
    )
    return box


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        yield ledger


def run():
    sample = a_run(RUN_ID)
    return msgspec.structs.replace(sample, box=msgspec.structs.replace(sample.box, state_dir=None))


def budget(box):
    return (box.state / f"runs/{RUN_ID}/budget").read_text()


def outcomes(ledger):
    return ledger._store.rows("SELECT kind, text, outcome FROM intent")


def test_a_grant_is_written_down_and_closed(box, ledger):  # P8
    allow(box.link(), ledger, run(), 2)
    assert budget(box) == "5\n"
    assert outcomes(ledger) == [("grant", "raise the budget from 3 to 5", "the budget is 5")]


def test_a_grant_whose_answer_was_lost_stays_open_until_the_box_was_asked(box, ledger):  # P8
    with pytest.raises(LinkError):
        allow(Breaks(box.link(), 2), ledger, run(), 2)
    (left,) = ledger.intents.open()
    assert (left.kind, left.run_id) == ("grant", RUN_ID)
    grants_answered(box.link(), ledger, run())
    assert ledger.intents.open() == ()
    assert outcomes(ledger)[0][2] == "seen on the box: the budget is 5"


def test_a_grant_repeated_after_a_cut_closes_the_first_and_says_what_it_found(box, ledger):  # P8
    with pytest.raises(LinkError):
        allow(Breaks(box.link(), 2), ledger, run(), 1)
    allow(box.link(), ledger, run(), 1)
    assert budget(box) == "5\n"
    assert [outcome for _, _, outcome in outcomes(ledger)] == [
        "seen on the box: the budget is 4",
        "the budget is 5",
    ]


def test_a_look_that_was_cut_begins_no_grant(box, ledger):
    with pytest.raises(LinkError):
        allow(Breaks(box.link(), 1), ledger, run(), 1)
    assert outcomes(ledger) == [] and budget(box) == "3\n"


def test_a_grant_that_the_box_refused_is_over(box, ledger):  # P8
    refused = BoxRefused("no room on the box", where="gpu1")
    with pytest.raises(BoxRefused):
        allow(Breaks(box.link(), 2, refused), ledger, run(), 1)
    assert outcomes(ledger)[0][2] == "not raised: no room on the box"
