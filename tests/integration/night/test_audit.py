"""The audit log: a line when a command that acts begins and one when it ends, whoever calls it, however it ends."""

import contextlib
import errno
import json
import multiprocessing
import os
import re
import resource
import signal
import stat
import subprocess

import pytest
from false_boxes import says, serving
from laptop import BABYSIT, SOON_S, Laptop, files
from ledger_samples import a_run
from waiting import wait_until

from babysit.verbs import CAPABILITIES
from babysit.verbs.audited import code_of
from fleet.errors import LedgerError, MachineShort
from fleet.ledger import audit
from fleet.ledger.ledger import Ledger

CANARY = "c4n4ry-s3cr3t-0815"


def lines(folder):
    file = folder / audit.FILE_NAME
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def pairs(folder):
    """`verb, box, run, exit code` of each action, in their order; None for one that never ended."""
    actions = {}
    for line in lines(folder):
        first = actions.setdefault(line["action"], line)
        assert (line["verb"], line["event"]) == (first["verb"], "end" if line is not first else "begin")
        first["code"] = line.get("exit_code")
    return [(each["verb"], each.get("box"), each.get("run"), each["code"]) for each in actions.values()]


def test_every_command_that_acts_leaves_two_lines_also_when_it_fails(night):  # S45
    laptop, job = night
    secret = job.waiting(f": https://me:{CANARY}@example.invalid/{CANARY}")
    assert laptop.run("arm", "gpu1", job.run, "--", secret, CLAUDECODE="1").returncode == 0
    job.up()
    for verb in (["patrol", "--once"], ["status"], ["resume", job.run]):
        laptop.run(*verb)
    assert pairs(laptop.state) == [("arm", "gpu1", job.run, 0)], "who only looks leaves nothing"
    assert laptop.run("stop", job.run).returncode == 5
    assert laptop.run("stop", job.run, "--grace", "1", "--yes", BABYSIT_ORIGIN="cron").returncode == 0
    resumed = laptop.run("resume", job.run, "--yes", CODEX_SANDBOX="seatbelt")
    assert laptop.run("arm", "gpu1", "x;id", "--", "true").returncode == 2
    assert laptop.run("stop", f"{CANARY} ; id", "--yes").returncode == 3
    assert pairs(laptop.state) == [
        ("arm", "gpu1", job.run, 0),
        ("stop", None, job.run, 5),
        ("stop", None, job.run, 0),
        ("resume", None, job.run, resumed.returncode),
        ("arm", "gpu1", None, 2),
        ("stop", None, None, 3),
    ]
    hands = [line["by"] for line in lines(laptop.state) if line["event"] == "begin"]
    assert hands == ["agent: claude-code", "no tty", "cron", "agent: codex", "no tty", "no tty"]
    for line in lines(laptop.state):
        assert line["host"] == os.uname().nodename and line["user"] == "root"
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:.]+\+00:00", line["at"])
    log = laptop.state / audit.FILE_NAME
    assert CANARY not in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    # A log that cannot be written is said, and stops no stop.
    log.unlink()
    log.mkdir()
    job.up(2)
    done = laptop.run("stop", job.run, "--grace", "1", "--yes")
    assert done.returncode == 0 and "stopped" in done.stdout, done.said
    assert done.stderr.count("no line in the audit log") == 2
    assert (job.record("end")["state"], job.record("end")["attempt"]) == ("stopped", "2")


def _on_the_box(job):
    """The run's files on the box, without what a look may write: its time, the page, and the log's growth."""
    return {
        str(path.relative_to(job.run_folder())): (seen.st_ino, seen.st_mtime_ns)
        for path, seen in files(job.run_folder())
        if path.name not in ("visited", "handbook.md", "run.log") and not path.name.startswith(".")
        if path.is_file()
    }


def test_who_only_looks_changes_nothing_of_a_run_and_leaves_no_line(night):  # S46 S45
    laptop, job = night
    assert laptop.run("arm", "gpu1", job.run, "--", job.waiting()).returncode == 0
    job.up()
    before, said = _on_the_box(job), lines(laptop.state)
    looks = {
        "patrol": ["--once"],
        "watch": ["gpu1", job.run, "--hours", "0.0003"],
        "logs": ["gpu1", job.run],
        "results": ["gpu1", job.run],
        "usage": ["gpu1", job.run],
        "resume": [job.run],
        "gc": ["gpu1"],
        "attach": ["gpu1", job.run],
        "check": [],
        "crontab": [],
        "doctor": ["gpu1"],
    }
    assert set(looks) == {
        name for name, does in CAPABILITIES.items() if does.does == "observes" or does.only_with
    }
    for verb, words in looks.items():
        done = laptop.run(verb, *words)
        assert "Traceback" not in done.stderr, done.said
    assert _on_the_box(job) == before and lines(laptop.state) == said
    assert job.launches() == 1 and laptop.health(job.run) in ("running", "starting")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, None)]
)
def test_a_command_that_is_ended_says_so_or_lacks_its_end(tmp_path, number, code):  # S45
    laptop = Laptop(tmp_path / "laptop", ())
    with serving(says(b"")) as port:  # a box that never greets: the command cannot be over before it is ended
        laptop.spec(f'[box.gpu1]\nhost = "127.0.0.1"\nport = {port}\nlimit_s = 100.0\n')
        child = laptop.start("arm", "gpu1", "train", "--", "true")
        wait_until(lambda: lines(laptop.state), SOON_S, "its first line")
        child.send_signal(number)
        child.communicate(timeout=SOON_S)
    assert pairs(laptop.state) == [("arm", "gpu1", "train", code)]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ENOSPC, errno.EROFS])
def test_a_machine_that_is_short_of_something_is_written_with_its_own_code(number):  # S45 P5
    assert code_of(OSError(number, "short")) == MachineShort.exit_code
    assert code_of(RuntimeError("can't start new thread")) == MachineShort.exit_code
    assert code_of(OSError(errno.ENOENT, "no such file")) == code_of(RuntimeError("a bug")) == 1


def test_the_log_has_the_code_that_the_command_ended_with(tmp_path):  # S45 P5
    laptop = Laptop(tmp_path / "laptop", ())
    with Ledger.open(laptop.state, write=True) as ledger:
        ledger.runs.put(a_run())
    words = ["/bin/sh", "-c", 'exec "$1" disarm train --yes >/dev/full', "sh", BABYSIT]
    done = subprocess.run(words, env=laptop.env, cwd=laptop.home, capture_output=True, text=True, check=False)
    assert done.returncode == MachineShort.exit_code and "No space left" in done.stderr, done
    assert pairs(laptop.state) == [("disarm", None, "train", MachineShort.exit_code)]


def entry(**changed):
    values = {"at": "2026-11-22T05:00:00+00:00", "action": "0" * 12, "event": "begin", "verb": "arm"}
    return audit.Entry(**{**values, "user": "me", "by": "tty", "host": "here", "pid": 1, **changed})


@pytest.mark.parametrize(
    ("environment", "terminal", "hand"),
    [
        ({}, True, "tty"),
        ({}, False, "no tty"),
        ({"CLAUDECODE": "1"}, True, "agent: claude-code"),
        ({"CLAUDECODE": ""}, True, "tty"),
        ({"CODEX_SANDBOX": "x"}, False, "agent: codex"),
        ({"CODEX_HOME": "/x"}, True, "tty"),
        ({"CI": "true"}, False, "ci"),
        ({"BABYSIT_ORIGIN": "cron"}, False, "cron"),
        ({"BABYSIT_ORIGIN": "cron", "CLAUDECODE": "1"}, False, "agent: claude-code"),
    ],
)
def test_the_hand_is_what_the_environment_shows(environment, terminal, hand):  # S45
    assert audit.hand(environment, terminal=terminal) == hand


def test_the_log_is_private_whatever_the_umask_and_follows_no_link(tmp_path):  # S45
    before = os.umask(0)
    try:
        audit.append(tmp_path / "state", entry())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state" / audit.FILE_NAME).stat().st_mode) == 0o600
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / "other" / audit.FILE_NAME).symlink_to(tmp_path / "victim")
    with pytest.raises(LedgerError):
        audit.append(tmp_path / "other", entry())
    assert not (tmp_path / "victim").exists()


def _write_many(folder, who, count):
    for number in range(count):
        audit.append(folder, entry(action=f"{who}-{number}", host="h" * 200))


def test_many_writers_tear_no_line_and_lose_at_most_what_was_moved_aside(tmp_path, monkeypatch):  # S45
    monkeypatch.setattr(audit, "MAX_BYTES", 100_000)
    folder, count = tmp_path / "state", 250
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(folder, who, count)) for who in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(150)
        assert writer.exitcode == 0
    kept = [
        json.loads(line)
        for name in ("audit.log.1", "audit.log")
        for line in (folder / name).read_text().splitlines()
        if line  # an empty one is harmless: who wrote it met a write that was under way
    ]
    assert len({line["action"] for line in kept}) == len(kept)
    for who in range(4):
        mine = [
            int(line["action"].partition("-")[2]) for line in kept if line["action"].startswith(f"{who}-")
        ]
        assert mine == sorted(mine) and (not mine or mine[-1] == count - 1)
    sizes = [(folder / name).stat().st_size for name in ("audit.log.1", "audit.log")]
    assert max(sizes) < 110_000 and sum(sizes) > 100_000, sizes


def _on_a_full_disk(folder, room, told):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        audit.append(folder, entry(action="torn"))
    except LedgerError as error:
        told.send(error.what)
    else:
        told.send("")


@pytest.mark.parametrize("room", [0, 20], ids=["not-a-byte", "a-part"])
def test_a_full_disk_is_said_and_spoils_no_other_line(tmp_path, room):  # S45
    folder = tmp_path / "state"
    audit.append(folder, entry(action="before"))
    size = (folder / audit.FILE_NAME).stat().st_size
    here, there = multiprocessing.get_context("fork").Pipe()
    writer = multiprocessing.get_context("fork").Process(
        target=_on_a_full_disk, args=(folder, size + room, there)
    )
    writer.start()
    writer.join(150)
    assert "cannot write" in here.recv()
    here.close()
    there.close()
    audit.append(folder, entry(action="after"))
    found = []
    for line in (folder / audit.FILE_NAME).read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line)["action"])
    assert found == ["before", "after"]


def test_a_user_without_a_name_is_a_number():
    assert audit.user() == "root" or audit.user().isidentifier() or audit.user().isdigit()
