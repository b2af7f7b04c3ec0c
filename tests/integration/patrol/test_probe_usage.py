"""What a watched stage used, through a real probe: the newest file, plain and small, and nothing for other runs."""

import json
import os

import pytest
from integration.patrol.hand_box import SHELLS, HandBox, answer, probed

from fleet import clock
from fleet.model.reading import Missing
from fleet.text.frame import sections
from patrol.decide import decide
from patrol.history import History, fold

pytestmark = pytest.mark.timeout(240)
every_shell = pytest.mark.parametrize("shell", SHELLS)
MIB = 1024


@pytest.fixture
def box(tmp_path):
    return HandBox(tmp_path)


def put(hand, stage="01-train", number=1, *, ago_s=5, name=None, **changed):
    """The file of a watched stage, written `ago_s` seconds ago."""
    folder = hand.folder / "usage"
    folder.mkdir(exist_ok=True)
    at = clock.now() - ago_s
    said = {
        "format": 1, "stage": stage, "attempt": number, "at_ms": int(at * 1000), "pid": 7, "cpu_usage": 99.0, "mem_rss_kb": 300 * MIB,
        "process_count": 2, "cgroup_used_kb": 310 * MIB, "cgroup_limit_kb": 320 * MIB,
        "summary": {"peak_mem_rss_kb": 310 * MIB, "peak_mem_rss_at_ms": int(at * 1000), "rising_since_ms": int(at * 1000) - 600_000}, "end": None,
    }  # fmt: skip
    path = folder / (name or f"{stage}.json")
    path.write_text(json.dumps({**said, **changed}, separators=(",", ":")))
    os.utime(path, (at, at))
    return path


def usage_of(box, hand, **how):
    return probed(box, [hand], **how).runs[hand.run.run_id].usage


def names(box, hand):
    token, reply, _ = answer(box, [hand])
    return [section.name for section in sections(reply, token, where="gpu1")]


@every_shell
def test_the_newest_stage_is_told_and_not_the_last_by_name(box, shell):
    hand = box.run()
    hand.attempt(2)
    put(hand, "01-train", 2, ago_s=5)
    put(hand, "02-eval", 1, ago_s=500)
    put(hand, "01-train", 2, ago_s=0, name="01-train.2.jsonl")
    put(hand, "02-eval", 2, ago_s=-50, name=".02-eval.json")
    found = usage_of(box, hand, interpreter=shell).value
    assert (found.stage, found.attempt, found.peak_bytes) == ("01-train", 2, 310 * MIB * 1024)
    put(hand, "02-eval", 2, ago_s=5)
    os.utime(
        hand.folder / "usage/02-eval.json", ns=((hand.folder / "usage/01-train.json").stat().st_mtime_ns,) * 2
    )
    assert (
        usage_of(box, hand, interpreter=shell).value.stage == "02-eval"
    )  # of the same moment: the later stage


@every_shell
def test_a_run_that_nobody_watches_pays_nothing(box, shell):
    hand = box.run()
    hand.attempt()
    assert "usage" not in names(box, hand)
    assert usage_of(box, hand, interpreter=shell).value is None
    (hand.folder / "usage").mkdir()
    assert usage_of(box, hand, interpreter=shell).value is None
    assert "usage" in names(box, hand)


@every_shell
def test_what_is_no_plain_small_file_is_never_read(box, shell):  # S38
    hand = box.run()
    hand.attempt()
    secret = box.home / "secret.json"
    put(hand).rename(secret)
    os.mkfifo(hand.folder / "usage/02-eval.json")
    (hand.folder / "usage/01-train.json").symlink_to(secret)
    assert usage_of(box, hand, interpreter=shell).value is None
    (hand.folder / "usage/01-train.json").unlink()
    put(hand, extra="x" * 5000)
    assert isinstance(usage_of(box, hand, interpreter=shell), Missing)
    # A folder that is a link leads out of the run's own.
    (hand.folder / "usage").rename(box.home / "elsewhere")
    (hand.folder / "usage").symlink_to(box.home / "elsewhere")
    assert usage_of(box, hand, interpreter=shell).value is None
    assert "usage" not in names(box, hand)


def judged(box, hand, *, lives, history=None):
    if lives:
        with hand.held("chain", "stage"):
            seen = probed(box, [hand])
    else:
        seen = probed(box, [hand])
    history = fold(history or History(), hand.run, seen, clock.now())
    return decide(hand.run, seen, history, clock.now())


def test_memory_is_at_risk_while_it_rises_and_is_named_when_it_killed(box):  # R43
    hand = box.run()
    hand.attempt(pid=2, ago_s=900)
    hand.log.write_text("Epoch 3/9\n")
    put(hand)
    verdict = judged(box, hand, lives=True)
    assert (verdict.row, verdict.exit_code) == ("R-MEM-1", 10)
    assert "memory 315 of 336 MB, rising for 10 min" in verdict.summary
    end = {
        "kind": "exit",
        "exit_code": None,
        "signal": 9,
        "killed_by": "oom",
        "oom": {"before": 0, "after": 1, "scope": "cgroup"},
    }
    put(hand, ago_s=121, end=end)
    hand.end("failed", why="signal", rc=137, signal=9, stage="01-train")
    verdict = judged(box, hand, lives=False)
    assert (verdict.row, verdict.exit_code) == ("R-OOM-1", 20)
    assert "stage train was killed by the OOM killer at 325 of 336 MB, rising for 10 min" in verdict.summary
    hand.attempt(2, pid=2)
    hand.end("failed", attempt=2, why="exit", rc=1, stage="01-train")
    assert judged(box, hand, lives=False).row == "R-FAIL-1"
