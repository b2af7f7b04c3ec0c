"""Real probes of real files, judged: what counts is what the box shows, and when it was written."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from integration.patrol.hand_box import HandBox, probed, tagged
from msgspec.structs import replace
from waiting import wait_until

from fleet import clock
from fleet.model.reading import Missing
from patrol.decide import decide
from patrol.history import History, fold

pytestmark = pytest.mark.timeout(240)
BEAT = b"[HEARTBEAT 10:00:01]\n"


@pytest.fixture
def box(tmp_path):
    return HandBox(tmp_path)


class Watch:
    """Ticks over one run whose chain lives; each one a real probe."""

    def __init__(self, box, hand):
        self.box, self.hand, self.history = box, hand, History()

    def tick(self):
        run = self.hand.run
        with self.hand.held("chain", "stage"):
            seen = probed(self.box, [self.hand], histories={run.run_id: self.history})
        self.history = fold(self.history, run, seen, clock.now())
        return decide(run, seen, self.history, clock.now())

    def wrote(self, path: Path, content: bytes, ago_s: float):
        with path.open("ab") as file:
            file.write(content)
        at = clock.now() - ago_s
        os.utime(path, (at, at))


def test_a_hang_that_prints_heartbeats_is_stalled(box):  # R146 D9 R98
    hand = box.run(stall_after_s=600)
    hand.attempt(ago_s=5000)
    watch = Watch(box, hand)
    watch.wrote(hand.log, b"Epoch 1/9\n", 500)
    assert watch.tick().row == "R-RUN-1"
    watch.wrote(hand.log, BEAT * 50, 1)
    assert watch.tick().row == "R-RUN-1"
    watch.history = replace(watch.history, advanced_at=watch.history.advanced_at - 300)  # five minutes later
    watch.wrote(hand.log, BEAT * 50, 0)
    verdict = watch.tick()
    assert (verdict.row, verdict.progress.index) == ("R-STALL-2", 1)
    watch.wrote(hand.log, b"Epoch 2/9\n", 0)
    assert watch.tick().row == "R-RUN-1"


def test_a_silent_log_with_an_advancing_checkpoint_runs(box):  # R98
    hand = box.run(stall_after_s=600, artifacts=("ck/*.pt",))
    hand.attempt(ago_s=5000)
    watch = Watch(box, hand)
    watch.wrote(hand.log, b"Epoch 1/9\n", 4000)
    assert watch.tick().row == "R-STALL-1"
    (box.home / "work/ck").mkdir()
    for age in (400, 200, 0):
        watch.wrote(box.home / "work/ck" / f"step-{age}.pt", b"x", age)
        assert watch.tick().row == "R-RUN-1"
    for path in (box.home / "work/ck").iterdir():
        path.unlink()
    assert watch.tick().row == "R-RUN-1", "checkpoints that were cleared away are no silence yet"


def test_a_new_attempt_after_a_failure_runs_although_the_old_end_lies_there(box):
    hand = box.run()
    hand.attempt(1, ago_s=5000)
    hand.end("failed", attempt=1, why="exit", rc=3, stage="01-train")
    hand.log.write_bytes(b"KeyError: 'x'\n")
    assert decide_now(box, hand).row == "R-FAIL-1"
    hand.attempt(2, ago_s=10)
    with hand.held("chain", "stage"):
        assert decide_now(box, hand).row in {"R-RUN-1", "R-START-1"}


def decide_now(box, hand, **how):
    seen = probed(box, [hand], **how)
    return decide(hand.run, seen, fold(History(), hand.run, seen, clock.now()), clock.now())


def test_another_boot_without_an_end_record_is_interrupted(box):  # R87
    hand = box.run()
    hand.attempt(boot="00000000-1111-2222-3333-444444444444")
    hand.log.write_bytes(b"Epoch 52/90\n")
    verdict = decide_now(box, hand)
    assert verdict.row == "R-INTERRUPT-1"
    assert "after epoch 52/90" in verdict.summary


def test_a_recycled_box_is_lost(box):
    hand = box.run()
    hand.attempt()
    (box.state / "box").write_text("id=" + "c" * 32 + "\n")
    assert decide_now(box, hand).row == "R-LOST-1"
    (box.state / "box").unlink()
    shutil.rmtree(hand.folder)
    assert decide_now(box, hand).row == "R-LOST-2"


def test_a_chain_that_starts_while_we_look_is_not_called_an_orphan(box, tmp_path):
    hand = box.run()
    hand.attempt(pid=2)
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "grep").write_text(
        f"#!/bin/sh\nif mkdir {slow}/begun 2>/dev/null; then\n"
        f"flock -x {hand.folder}/chain.lock sh -c 'echo $$ >{slow}/new; mv {slow}/new {slow}/holder; exec sleep 900'"
        f" </dev/null >/dev/null 2>&1 &\nfi\n"
        f'until ! flock -n -s {hand.folder}/chain.lock true; do sleep 0.05; done\nexec {shutil.which("grep")} "$@"\n'
    )
    (slow / "grep").chmod(0o755)
    child = tagged(hand)
    try:
        wait_until(
            lambda: decide_now(box, hand).row == "R-ORPHAN-1", 60, "it is an orphan as long as nothing starts"
        )
        seen = probed(box, [hand], path=f"{slow}:{os.environ['PATH']}", looks=1)
        assert seen.runs[hand.run.run_id].locks == Missing("the locks changed hands while we looked")
    finally:
        child.kill()
        child.wait()
        if (slow / "begun").exists():
            wait_until((slow / "holder").exists, 60, "who holds the lock")
            os.kill(int((slow / "holder").read_text()), signal.SIGKILL)


def test_a_box_without_timeout_is_asked_as_well(box, tmp_path):  # R23
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in [
        "sh",
        "dd",
        "cat",
        "head",
        "tail",
        "cut",
        "sort",
        "stat",
        "df",
        "date",
        "grep",
        "sed",
        "tr",
        "xargs",
        "sleep",
        "flock",
        "cksum",
        "env",
    ]:
        found = next(place for place in ("/usr/bin", "/bin") if Path(place, tool).exists())
        (bare / tool).symlink_to(Path(found, tool))
    hand = box.run(artifacts=("*",))
    hand.attempt()
    hand.log.write_bytes(b"Epoch 1/9\n")
    with hand.held("chain"):
        seen = probed(box, [hand], path=str(bare))
    facts = seen.runs[hand.run.run_id]
    assert facts.locks.value.chain_held is True
    assert (facts.alive.value, facts.log.value.data) == ((), b"Epoch 1/9\n")


def test_a_box_with_busybox_tools_is_asked_as_well(box, tmp_path):  # R23
    bare = tmp_path / "bin"
    bare.mkdir()
    applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    needed = "sh dd cat head tail cut sort stat df date grep sed tr xargs sleep flock cksum env timeout"
    for (
        tool
    ) in needed.split():  # a build may lack flock or cksum, as Debian's does; those are the system's then
        (bare / tool).symlink_to(shutil.which("busybox" if tool in applets else tool))
    hand = box.run(artifacts=("ck/*",))
    hand.attempt()
    hand.log.write_bytes(b"x" * 5000 + b"\nEpoch 1/9\n")
    (box.home / "work/ck").mkdir()
    (box.home / "work/ck/a b.pt").write_text("x")
    child = tagged(hand)
    try:
        with hand.held("chain"):
            seen = probed(box, [hand], path=str(bare), interpreter="busybox")
        facts = seen.runs[hand.run.run_id]
        assert facts.locks.value.chain_held is True
        assert [item.pid for item in facts.alive.value] == [child.pid]
        assert facts.log.value.data.endswith(b"\nEpoch 1/9\n")
        assert [item.path for item in facts.artifacts.value] == ["ck/a b.pt"]
        assert seen.box.disks.value[0].used_pct > 0
    finally:
        child.kill()
        child.wait()
