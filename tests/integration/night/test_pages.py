"""Pages as they are rewritten: by what is known last, for the boxes that have news, and never in a report's way."""

import fcntl
import json

import msgspec
import pytest
from ledger_samples import a_run, a_tick, a_verdict

from babysit.acts import handing
from babysit.acts.here import Here
from babysit.acts.settle import Settled
from babysit.acts.tick import tick
from fleet.link.answers import FILE_NAME, Answers
from fleet.link.local import LocalLink
from fleet.model.spec import BoxSpec, Spec
from fleet.model.verdict import Health
from handbook import store

# Nothing listens there: an answer at once, and no box.
NOWHERE = BoxSpec("gpu1", "127.0.0.1", user="me", port=1)


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "me"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def place(tmp_path, home):
    return Here(tmp_path / "state", Spec())


def on(box, run_id="train-k3f9"):
    return msgspec.structs.replace(a_run(run_id), box=box, launched=True)


def page_of(place, run_id="train-k3f9"):
    return store.path(place.folder / "handbook", run_id).read_text()


def as_settled(*run_ids):
    """What a look found that settled before somebody else's: running."""
    old = tuple(a_verdict(run_id, health=Health.RUNNING, summary="was running") for run_id in run_ids)
    return Settled(old, frozenset(run_ids), 1, 0)


def test_a_box_whose_ssh_config_is_of_no_use_costs_nobody_a_report_or_a_page(place, home):  # R99 P10
    (home / ".ssh/config").write_text("Host lost\n  ProxyCommand nc %Z\n")
    with place.ledger() as ledger:
        ledger.runs.put(on(BoxSpec("lost", "me@lost"), "eval-9d2k"))
        ledger.runs.put(on(NOWHERE))
    done = tick(place, origin="hand")
    assert [verdict.health for verdict in done.verdicts] == [Health.UNREACHABLE] * 2
    assert done.errors == ()
    assert "--at me@lost:22" in page_of(place, "eval-9d2k")
    assert "--at me@127.0.0.1:1" in page_of(place)
    index = (place.folder / "handbook" / store.INDEX).read_text()
    assert "--at me@lost:22" in index and "--at me@127.0.0.1:1" in index


@pytest.mark.fault  # it waits for as long as a writer of pages does
def test_pages_that_somebody_keeps_locked_are_said_and_the_report_comes(place):
    with place.ledger() as ledger:
        ledger.runs.put(on(NOWHERE))
    store.write_index(place.folder / "handbook", "")
    with (place.folder / "handbook/.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = tick(place, origin="hand")
    assert [verdict.health for verdict in done.verdicts] == [Health.UNREACHABLE]
    assert [type(error).__name__ for error in done.errors] == ["Busy"]
    assert done.exit_code == 10


def test_the_index_takes_what_ssh_said_from_the_last_patrol(place, home):
    box = BoxSpec("gpu1", "gpu1")
    (home / ".ssh/config").write_text("Host gpu1\n  HostName one.example\n")
    with place.ledger() as ledger:
        ledger.runs.put(on(box))
        learnt = Answers(place.folder)
        assert learnt.ask("gpu1", "gpu1", ())["hostname"] == ["one.example"]
        learnt.keep()
        kept = json.loads((place.folder / FILE_NAME).read_text())
        for answer in kept["told"]["gpu1"].values():
            answer["hostname"] = ["repeated.example"]  # who asks ssh does not find this
        (place.folder / FILE_NAME).write_text(json.dumps(kept))
        handing.write_index(place, ledger)
    assert "repeated.example" in (place.folder / "handbook" / store.INDEX).read_text()


def test_a_box_that_was_forgotten_is_asked_about_once_and_not_remembered(place, home):
    (home / ".ssh/config").write_text(
        "Host gpu1\n  HostName one.example\nHost gpu2\n  HostName two.example\n"
    )
    place.folder.mkdir(mode=0o700)
    answers = Answers(place.folder)
    for name in ("gpu1", "gpu2"):
        answers.ask(name, name, ())
    answers.forget("gpu1")
    assert answers.ask("gpu1", "gpu1", ())["hostname"] == ["one.example"]
    answers.keep()
    assert list(json.loads((place.folder / FILE_NAME).read_text())["told"]) == ["gpu2"]


def test_a_page_says_what_was_settled_last_whoever_writes_it(place):  # R99
    newest = a_verdict("train-k3f9", health=Health.FINISHED, summary="all of it is done")
    with place.ledger() as ledger:
        ledger.runs.put(on(NOWHERE))
        ledger.ticks.commit(msgspec.structs.replace(a_tick(), verdicts=(newest,)))
        handing.rewrite(place, ledger, ledger.runs.all(), as_settled("train-k3f9"), reached=set(), limit_s=5)
    assert "all of it is done" in page_of(place)
    assert "was running" not in page_of(place)


def test_a_page_that_a_newer_one_replaced_is_not_put_on_the_box(place, tmp_path):  # R107
    runs = (on(NOWHERE), on(NOWHERE, "eval-9d2k"))
    there = tmp_path / "there"
    for run in runs:
        (there / ".local/state/babysit/runs" / run.run_id).mkdir(parents=True)

    class Meanwhile(LocalLink):
        """As the first page is on its way, another babysit writes the second run's."""

        def run(self, script, request, **how):
            store.write(place.folder / "handbook", "eval-9d2k", "# newer, and on its way by itself\n")
            return super().run(script, request, **how)

    link = Meanwhile(env={"HOME": str(there), "PATH": "/usr/bin:/bin"})
    with place.ledger() as ledger:
        for run in runs:
            ledger.runs.put(run)
        settled = as_settled("train-k3f9", "eval-9d2k")
        handing.rewrite(place, ledger, runs, settled, reached=set(), limit_s=20, link=link)
    found = {path.parent.name: path.read_text() for path in there.rglob("handbook.md")}
    assert found == {"train-k3f9": page_of(place)}
