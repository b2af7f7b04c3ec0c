"""A run with watched stages, as its owner meets it: what the patrol says of its memory, and of its end."""

import json

import pytest
from laptop import SOON_S
from waiting import wait_until

# Held until it was seen: its watcher may come to look at any time.
_HOLDS = "import os, sys, time; held = bytearray(b'x' * (60 << 20)); [time.sleep(0.05) for _ in iter(lambda: os.path.exists(sys.argv[1]), True)]"


def _spec(laptop, job, *commands, monitor="monitor = true"):
    text = f'[run.{job.run}]\nbox = "gpu1"\n'
    for name, command in zip(("prepare", "train"), commands, strict=True):
        text += f'[[run.{job.run}.stages]]\nname = "{name}"\ncommand = {json.dumps(command)}\n'
        text += f"{monitor}\n" if name == "train" else ""
    laptop.spec(text)


def _run(laptop, job):
    return next(found for found in laptop.patrol()["runs"] if found["run"] == job.run)


def test_the_report_of_a_watched_run_has_its_memory_and_its_peak(night):  # R43
    laptop, job = night
    _spec(laptop, job, "true", job.waiting(f"python3 -c {json.dumps(_HOLDS)} $W/seen"))
    dry = laptop.run("arm", "gpu1", job.run, "--dry-run", "--json").json
    assert dry["watched"] == ["train"] and "monitor=02-train\n" in dry["untrusted_files"]["plan"]
    armed = laptop.run("arm", "gpu1", job.run)
    assert armed.returncode == 0 and f"monitor train; babysit usage gpu1 {job.run}" in armed.stdout, (
        armed.said
    )
    job.up()
    usage = job.run_folder() / "usage"
    wait_until((usage / "02-train.json").exists, SOON_S, "its watcher wrote down the first look")
    assert "monitor=02-train\n" in (job.run_folder() / "plan").read_text()
    alive = _run(laptop, job)
    assert (alive["usage"]["stage"], alive["usage"]["attempt"], alive["usage"]["end"]) == (
        "02-train",
        1,
        None,
    )
    assert alive["row"] in ("R-RUN-1", "R-START-1"), alive
    job.release()
    status = usage / "02-train.json"
    wait_until(
        lambda: json.loads(status.read_text())["summary"].get("peak_mem_rss_kb", 0) >= 60 << 10,
        SOON_S,
        "the peak",
    )
    (job.folder / "seen").touch()
    job.ended()
    done = laptop.run("patrol", "--once")
    assert "all stages ended well" in done.stdout and "in train" in done.stdout, done.said
    found = _run(laptop, job)
    assert found["usage"]["peak_bytes"] >= 60 << 20
    assert (found["usage"]["end"]["exit_code"], found["usage"]["end"]["killed_by"]) == (0, None)
    said = [seen["says"] for seen in found["evidence"] if seen["source"] == "usage"]
    assert len(said) == 2 and said[0].startswith("stage train in attempt 1") and "with status 0" in said[1], (
        said
    )
    assert sorted(path.name for path in usage.iterdir()) == ["02-train.1.jsonl", "02-train.json"]
    assert usage.stat().st_mode & 0o777 == 0o700


@pytest.mark.fault  # the same row by a real probe, and by a real kill, is cheaper elsewhere
def test_a_kill_for_memory_that_its_watcher_saw_is_the_runs_verdict(night):
    laptop, job = night
    # A real stage that leaves what a watcher writes; the kernel kills for memory in tests/integration/chain.
    _spec(laptop, job, "true", job.command("kill -9 $$"))
    assert laptop.run("arm", "gpu1", job.run).returncode == 20
    file = job.run_folder() / "usage/02-train.json"
    plain = _run(laptop, job)
    assert plain["row"] == "R-FAIL-2" and plain["usage"]["end"]["killed_by"] == "unknown", plain
    seen = json.loads(file.read_text())
    oom = {"killed_by": "oom", "oom": {"before": 0, "after": 1, "scope": "cgroup"}}
    memory = {
        "peak_mem_rss_kb": 31_054_688,
        "peak_mem_rss_at_ms": seen["at_ms"],
        "rising_since_ms": seen["at_ms"] - 2_400_000,
    }
    seen |= {
        "cgroup_limit_kb": 31_250_000,
        "summary": {**seen["summary"], **memory},
        "end": {**seen["end"], **oom},
    }
    file.write_text(json.dumps(seen))
    assert _run(laptop, job)["row"] == "R-OOM-1"
    told = laptop.run("patrol", "--once")
    shown = " ".join(told.stdout.split())
    assert "killed by the OOM killer at 31.8 of 32 GB, rising for 40 min" in shown, told.said
    assert f"next: babysit usage gpu1 {job.run}" in shown and told.returncode == 20
    assert all(len(line) <= 80 for line in told.stdout.splitlines())
    # Another attempt is another matter.
    file.write_text(json.dumps(seen | {"attempt": 2}))
    unread = _run(laptop, job)
    assert unread["row"] == "R-FAIL-2" and unread["usage"] is None
    assert "of a later attempt than" in str(unread["evidence"])


def test_a_run_that_was_armed_without_is_not_watched_by_a_word_in_the_file(night):
    laptop, job = night
    _spec(laptop, job, "true", job.waiting(), monitor="")
    assert laptop.run("arm", "gpu1", job.run).returncode == 0
    job.up()
    _spec(laptop, job, "true", job.waiting())
    again = laptop.run("arm", "gpu1", job.run)
    assert again.returncode == 0 and job.launches() == 1, again.said
    assert "not watched: train; this run was armed without" in " ".join(again.stdout.split())
    assert not (job.run_folder() / "usage").exists()
    job.release()
