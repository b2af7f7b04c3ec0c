"""The patrol on real boxes: one connection a tick, nobody waits for a frozen box, and what is told is what is."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from box import Box
from false_boxes import relays, says, serving
from laptop import SOON_S, Job, Laptop, end_all, files
from waiting import wait_until

from fleet.ledger.lock import tick_lock

LIMIT_S = 6.0
STALL_S = 10  # longer than a busy machine keeps a loop from turning


def test_a_quiet_tick_is_one_connection_and_one_channel_however_many_runs(box, laptop):  # R1 R35 R18 R24
    jobs = [Job(box, f"job{number}") for number in range(5)]
    for job in jobs:
        assert laptop.run("arm", "gpu1", job.folder.name, "--", job.waiting()).returncode == 0
        job.up()
    laptop.patrol()
    for _ in range(2):
        before = box.traffic()
        assert len(laptop.patrol()["runs"]) == 5
        after = box.traffic()
        assert after.connections - before.connections == 1
        assert after.sessions - before.sessions == 1
    for job in jobs:
        job.release()


def test_a_tick_says_how_the_keys_were_exchanged_over_both_transports(laptop, job):  # S5
    """null stands for what nobody told: here for a box that did not answer."""
    assert laptop.run("arm", "gpu1", "train", "--", job.waiting()).returncode == 0
    assert laptop.patrol()["runs"][0]["strict_kex"] is True
    assert laptop.run("status", "--json").json["runs"][0]["strict_kex"] is True
    laptop.spec('[box.gpu1]\nlink = "ssh"\n')
    assert laptop.patrol()["runs"][0]["strict_kex"] is True
    job.box.drop_sshd()
    assert laptop.patrol()["runs"][0]["strict_kex"] is None
    job.box.raise_sshd()
    job.release()


def test_a_quiet_tick_writes_one_file_on_the_box(laptop, job):  # R58
    laptop.run("arm", "gpu1", "train", "--", job.waiting())
    job.up()
    laptop.patrol()

    def tree():
        return {str(path): seen.st_mtime_ns for path, seen in files(job.box.home) if path.is_file()}

    before = tree()
    laptop.patrol()
    changed = {name for name, stamp in tree().items() if before.get(name) != stamp}
    assert {Path(name).name for name in changed} == {"visited"}
    job.release()


def test_a_run_killed_without_a_record_is_seen_as_gone(laptop, job):  # D1 R16 R34
    laptop.run("arm", "gpu1", "train", "--", job.waiting())
    job.up()
    assert laptop.health("train") in ("starting", "running")
    chain = int(job.record("attempt")["pid"])
    job.box.run(f"kill -9 {chain} {job.pid()}; pkill -9 -f supervise; true")
    wait_until(lambda: not job.held("chain", "stage"), SOON_S, "the job is gone, its last sleep included")
    assert laptop.health("train") == "vanished"


def test_a_run_outlives_the_tmux_it_was_started_in(laptop, job):  # R59
    armed = laptop.run("arm", "gpu1", "train", "--", job.waiting())
    assert "tmux" in armed.stderr
    job.up()
    job.box.run("tmux -L babysit kill-server")
    wait_until(lambda: "tmux" not in str(job.box.processes()), SOON_S, "tmux is gone")
    assert laptop.health("train") == "running"
    job.release()
    assert laptop.run("watch", "gpu1", "train").returncode == 0


def test_a_reboot_is_told_from_a_crash(laptop, job):  # R34 R83
    laptop.run("arm", "gpu1", "train", "--", job.waiting())
    job.up()
    laptop.patrol()
    job.box.reboot()
    found = laptop.patrol()["runs"][0]
    assert (found["health"], found["row"]) == ("interrupted", "R-INTERRUPT-1")
    assert found["next"] == ["babysit resume gpu1 train --yes"]


def test_a_container_that_was_started_anew_is_told_from_a_crash(laptop, job):  # R53 R83
    laptop.run("arm", "gpu1", "train", "--", job.waiting())
    job.up()
    assert laptop.patrol()["runs"][0]["health"] == "running"
    boot = job.box.boot_id
    job.box.restart()
    assert job.box.boot_id == boot
    found = laptop.patrol()["runs"][0]
    assert (found["health"], found["row"]) == ("interrupted", "R-INTERRUPT-1")
    assert found["next"] == ["babysit resume gpu1 train --yes"]
    assert "its container was started anew" in " ".join(laptop.run("patrol", "--once").stdout.split())


def test_a_box_that_is_away_says_nothing_about_the_job(laptop, job):  # R12 R14 R82
    laptop.run("arm", "gpu1", "train", "--", job.waiting())
    job.up()
    laptop.patrol()
    job.box.drop_sshd()
    found = laptop.patrol()
    assert (found["exit_code"], found["runs"][0]["health"]) == (11, "unreachable")
    screen = laptop.run("patrol", "--once").stdout
    assert "last seen" in screen and "console" in screen
    job.box.raise_sshd()
    found = laptop.run("patrol", "--once", "--now", "--json").json
    assert found["runs"][0]["health"] == "running"
    job.release()


def test_a_second_tick_at_the_same_time_says_who_is_at_it(laptop):  # R91
    laptop.patrol()
    with tick_lock(laptop.state, at=time.time()):
        began = time.monotonic()
        second = laptop.run("patrol", "--once")
        assert second.returncode == 75 and str(os.getpid()) in second.stderr, second.said
    print(f"refused after {time.monotonic() - began:.2f} s")
    assert laptop.run("patrol", "--once").returncode == 0


SPEC = """
    [box.gpu1]
    host = "gpu1"
    [run.train]
    stall_after_s = {stall_s}
    start_grace_s = 1
    artifacts = ["job/ckpt*"]
    [[run.train.stages]]
    name = "train"
    command = '''{command}'''
"""
BEATS = 'n=0; while [ ! -e $W/go ]; do n=$((n+1)); echo "[HEARTBEAT 12:00:$n] still running"; sleep 0.2; done'
SAVES = "n=0; while [ ! -e $W/go ]; do n=$((n+1)); echo $n > $W/ckpt$((n % 3)); sleep 0.2; done"


@pytest.mark.parametrize(
    ("loop", "last"), [(BEATS, "stalled"), (SAVES, "running")], ids=["heartbeats", "checkpoints"]
)
def test_a_hang_with_heartbeats_stalls_and_a_silent_log_with_checkpoints_does_not(
    loop, last, laptop, job
):  # R98 D9 R150 D16
    laptop.spec(SPEC.format(command=job.command(loop), stall_s=STALL_S))
    assert laptop.run("arm", "gpu1", "train").returncode == 0
    job.up()
    seen, began = [], time.monotonic()
    # Heartbeats have to stall however late; checkpoints must not, for longer than a silence is allowed to last.
    while "stalled" not in seen and time.monotonic() - began < (SOON_S if last == "stalled" else STALL_S + 3):
        seen.append(laptop.health("train"))
    assert seen[-1] == last, seen
    job.release()


def test_frozen_boxes_cost_their_limit_and_the_others_nothing(tmp_path, make_box):  # R3 P5 R2
    healthy, frozen, asleep = make_box("gpu1"), make_box("gpu2"), make_box("gpu3")
    with ExitStack() as stack:
        stages = {
            "banner": stack.enter_context(serving(says(b""))),
            "kex": stack.enter_context(serving(relays(frozen.port, 300, "stall"))),
            "answer": stack.enter_context(serving(relays(frozen.port, 3500, "stall"))),
        }
        laptop = Laptop(tmp_path / "laptop", (healthy, frozen, asleep))
        boxes = "".join(
            f"[box.{name}]\nhost = '127.0.0.1'\nport = {port}\nuser = 'dev'\nidentity = '{frozen.key}'\nlimit_s = {LIMIT_S}\n"
            for name, port in stages.items()
        )
        boxes += f"[box.gpu3]\nlimit_s = {LIMIT_S}\n"
        jobs = {name: Job(frozen, f"job-{name}") for name in stages}
        straight = "".join(
            f"[box.{name}]\nhost = '127.0.0.1'\nport = {frozen.port}\nuser = 'dev'\nidentity = '{frozen.key}'\n"
            for name in jobs
        )
        (laptop.home / ".ssh/known_hosts").write_text("\n".join((*frozen.known_hosts_lines, "")))
        laptop.spec(straight)
        for name, job in jobs.items():
            done = laptop.run("arm", name, f"run-{name}", "--", job.waiting())
            assert done.returncode == 0, done.said
        well, slept = Job(healthy), Job(asleep)
        assert laptop.run("arm", "gpu3", "run-gpu3", "--", slept.waiting()).returncode == 0
        assert laptop.run("arm", "gpu1", "well", "--", well.waiting()).returncode == 0
        well.up()
        laptop.spec(boxes)
        # The box freezes each session of its own accord, right after the login.
        (asleep.home / ".bashrc").write_text("kill -STOP $PPID\n")
        began = time.monotonic()
        found = {run["run"]: run for run in laptop.patrol()["runs"]}
        took_s = time.monotonic() - began
        assert found["well"]["health"] in ("starting", "running")
        assert {found[f"run-{name}"]["health"] for name in (*jobs, "gpu3")} == {"unreachable"}
        print(f"tick with 4 frozen boxes and one healthy: {took_s:.1f} s, limit {LIMIT_S} s a box")
        assert took_s < 4 * LIMIT_S, "they were waited for side by side"
        # Nothing of us is left on the box but its own jobs.
        for each in (frozen, asleep):

            def left(box: Box = each) -> bool:
                end_all(box.session_pids(), signal.SIGCONT)  # one may have come to freeze itself only now
                return not box.session_pids()

            wait_until(left, SOON_S, f"the sessions of {each.name} are gone")
            wait_until(
                lambda box=each: not any("dd ibs=1" in line for line in box.processes().values()),
                SOON_S,
                "our scripts are gone",
            )
        for job in (*jobs.values(), well, slept):
            job.release()
