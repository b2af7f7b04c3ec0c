"""The program itself on a bad disk: a report every tick, nothing lost, nothing cut off, and the loss is said."""

import contextlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import processes
import pytest
from ledger_samples import a_run, a_tick, an_event

from fleet.ledger.ledger import Ledger
from fleet.ledger.store import kept_copies
from fleet.model.spec import BoxSpec, TargetSpec

BABYSIT = Path(sys.executable).with_name("babysit")
BOX = BoxSpec("gpu1", "127.0.0.1", user="me", port=1)  # nothing listens there: an answer at once, and no box
NOBODY = TargetSpec("hook", "env:NOBODY_SET_THIS")


pytestmark = pytest.mark.timeout(300)


class Done(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "state"
    with Ledger.open(folder, write=True) as ledger:
        ledger.boxes.put(BOX)
        for number in range(3):
            run = a_run(f"train{number}-k3f9")
            ledger.runs.put(msgspec.structs.replace(run, box=BOX, launched=True))
    return folder


def _environment(folder):
    home = folder.parent / "home"
    return {"HOME": str(home), "BABYSIT_STATE": str(folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def _babysit(folder, *words, before=None):
    done = subprocess.run(
        [BABYSIT, *words],
        env=_environment(folder),
        cwd=folder.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=before,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def _patrol(folder, **how):
    return _babysit(folder, "patrol", "--once", **how)


def _runs(folder):
    with Ledger.open(folder, write=False) as ledger:
        return sorted(run.run_id for run in ledger.runs.all())


def _overwrite(folder, at=0, count=None):
    path = folder / "ledger.db"
    data = bytearray(path.read_bytes())
    size = (len(data) if count is None else count * 4096) - at * 4096 * (count is None)
    data[at * 4096 : at * 4096 + size] = bytes(size)
    path.write_bytes(data)


EVERY_RUN = ["train0-k3f9", "train1-k3f9", "train2-k3f9"]


def test_a_tick_that_meets_a_zeroed_ledger_goes_on_from_the_backup_and_says_so(folder):  # P8 P10 R91
    assert _patrol(folder).status == 11
    assert len(kept_copies(folder)) == 1, "the first tick makes the first backup"
    _overwrite(folder)
    done = _patrol(folder)
    assert done.status == 10, done
    assert all(f"train{number}" in done.out for number in range(3)), "no run left the watch"
    (aside,) = folder.glob("damaged-*")
    assert f"it lies in {aside} as it was found" in done.err
    assert "Restored from" in done.err and "3 runs" in done.err
    assert _runs(folder) == EVERY_RUN
    assert _patrol(folder).status == 11, "said once: nothing is lost"
    assert _babysit(folder, "check").status == 0


def test_runs_that_nothing_could_bring_back_are_told_by_every_tick_until_they_are(folder):  # P8 P10 R91
    assert _patrol(folder).status == 11
    shutil.rmtree(folder / "backup")
    _overwrite(folder)
    for _ in range(2):
        done = _patrol(folder)
        assert done.status == 10
        for run_id in EVERY_RUN:
            assert f"{run_id} is watched no longer" in done.err
        assert "next: babysit resume train1 --at me@127.0.0.1:1\n" in done.err, "the handbook remembers where"
    checked = _babysit(folder, "check", "--json")
    document = json.loads(checked.out)
    assert (checked.status, document["exit_code"], len(document["findings"])) == (10, 10, 3)
    with Ledger.open(folder, write=True) as ledger:
        for run_id in EVERY_RUN:
            ledger.runs.put(msgspec.structs.replace(a_run(run_id), box=BOX, launched=True))
    assert _patrol(folder).status == 11
    assert _babysit(folder, "check").status == 0


def test_damage_that_no_tick_meets_is_found_before_the_next_backup(folder):  # P8
    assert _patrol(folder).status == 11
    with sqlite3.connect(folder / "ledger.db") as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'run_by_name'"
        ).fetchone()
    connection.close()
    _overwrite(folder, at=page - 1, count=1)
    assert _patrol(folder).status == 11, "an index that nothing asked for"
    (kept,) = kept_copies(folder)
    os.utime(kept, (0, 0))
    done = _patrol(folder)
    assert "it lies in" in done.err and "Read from it: 3 runs, 1 box." in done.err
    assert _babysit(folder, "check").status == 0


def test_a_disk_that_damages_its_ledger_again_and_again_needs_a_person(folder):  # P8
    for number in range(3):
        (folder / f"damaged-20261122-03030{number}").mkdir(mode=0o700)
    _overwrite(folder)
    done = _patrol(folder)
    assert done.status == 2
    assert "moved aside 3 times today already" in done.err
    assert "next: babysit check --repair\n" in done.err
    assert len(list(folder.glob("damaged-*"))) == 3, "a tick does not fill the disk with copies"
    assert _babysit(folder, "check", "--repair").status == 0, "nothing is known of it: an empty one"
    assert len(list(folder.glob("damaged-*"))) == 4


def test_check_repairs_by_hand_and_every_other_command_names_it(folder):  # R91
    assert _patrol(folder).status == 11
    _overwrite(folder)
    for words in (["status"], ["watch", "gpu1", "train0"], ["resume"]):
        done = _babysit(folder, *words)
        assert (done.status, done.err.splitlines()[-1]) == (2, "next: babysit check --repair"), words
    found = _babysit(folder, "check")
    assert found.status == 2 and "next: babysit check --repair" in found.out
    mended = _babysit(folder, "check", "--repair")
    assert mended.status == 0, mended
    said = " ".join(mended.out.split())  # a long folder wraps elsewhere
    assert "Restored from" in said and "is sound" in said
    assert max(map(len, mended.out.replace(str(folder), "").splitlines())) <= 80
    assert _runs(folder) == EVERY_RUN
    assert _babysit(folder, "check", "--repair").out == _babysit(folder, "check").out, (
        "nothing to mend: nothing is done"
    )
    assert len(list(folder.glob("damaged-*"))) == 1


def test_check_repair_closes_what_others_could_look_into(folder):  # S41
    (folder / "ledger.db").chmod(0o644)
    folder.chmod(0o755)
    assert _babysit(folder, "check").status == 10
    assert _babysit(folder, "check", "--repair").status == 0
    modes = {each.name: each.stat().st_mode & 0o777 for each in (folder, folder / "ledger.db")}
    assert modes == {"state": 0o700, "ledger.db": 0o600}


def test_what_was_begun_and_cut_short_is_told_with_its_command(folder):  # P8
    with Ledger.open(folder, write=True) as ledger:
        yesterday = time.time() - 86400
        ledger.intents.begin("gone-xxxxx", "arm", "arm gone on gpu1", yesterday)
        ledger.intents.begin("train1-k3f9", "launch", "start from 0", yesterday)
    found = json.loads(_babysit(folder, "check", "--json").out)["findings"]
    assert [each["fix"] for each in found] == ["babysit arm gpu1 gone", "babysit resume gpu1 train1"]
    told = _patrol(folder).err
    assert "nobody knows whether it happened" in told
    assert "next: babysit resume gpu1 train1\n" in told, "the box does not answer, so it stays open"
    assert "arm gone on gpu1" not in told, "a day old, and nothing can have come of it"


def _namespace(folder, script):
    """`script` in a mount namespace of its own, in which `folder` is a disk of 600 kB with the ledger on it."""
    reason = "" if os.geteuid() == 0 and shutil.which("unshare") else "needs root and unshare"
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    setup = (
        "set -e; umask 077; cp -a $S $S.copy; mount -t tmpfs -o size=600k,mode=0700 none $S; "
        "cp -a $S.copy/. $S/; export BABYSIT_STATE=$S; cd $S.copy; "
        "say() { set +e; $B $2 >$O/$1.out 2>$O/$1.err </dev/null; echo $? >$O/$1.status; set -e; }; "
    )
    out = folder.parent / "said"
    out.mkdir()
    subprocess.run(
        ["unshare", "-m", "sh", "-c", setup + script],
        env={**_environment(folder), "S": str(folder), "O": str(out), "B": str(BABYSIT)},
        timeout=250,
        check=True,
    )

    def said(name):
        done = Done(
            int((out / f"{name}.status").read_text()),
            (out / f"{name}.out").read_text(),
            (out / f"{name}.err").read_text(),
        )
        assert "Traceback" not in done.err, done.err
        return done

    return said, out


COPY = "flock $S/ledger.lock cp $S/ledger.db"  # not while a courier puts its log into it
FILL = "dd if=/dev/zero of=$S/full bs=1k 2>/dev/null || true; "


@pytest.fixture
def waiting(folder):
    """A ledger with news that has not reached anybody."""
    assert _patrol(folder).status == 11
    with Ledger.open(folder, write=True) as ledger:
        ledger.ticks.commit(
            msgspec.structs.replace(
                a_tick(an_event(), targets=(NOBODY,)), verdicts=(), histories={}, incidents=b"[]"
            )
        )
    yield folder
    words = f"fleet.notices.courier\0{folder}\0".encode()
    for pid in processes.pids():
        if words in processes.of(pid, "cmdline"):  # it would go on trying
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_on_a_full_disk_there_is_a_report_and_nothing_is_lost_or_cut_off(waiting):  # P3 P8 P10
    script = (
        f"{FILL} say full 'patrol --once'; say json 'patrol --once --json'; say status status; "
        f"{COPY} $O/full.db; rm $S/full; say healed 'patrol --once'; say check check; "
        f"{COPY} $O/healed.db"
    )
    said, out = _namespace(waiting, script)
    full = said("full")
    assert full.status == 10, full
    assert all(f"train{number}" in full.out for number in range(3)), "a line for every run"
    assert "the disk is full" in full.err
    assert f"next: df -h {waiting}" in full.err
    document = json.loads(said("json").out)
    assert (document["exit_code"], len(document["runs"])) == (10, 3)
    assert document["errors"][0]["code"] == "BS-LEDGER"
    assert said("status").status == 0
    assert said("healed").status == 11, said("healed")
    for name in ("full.db", "healed.db"):
        with sqlite3.connect(out / name) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            waiting_rows = "SELECT count(*) FROM outbox WHERE event_id = 'ev-1' AND state = 'due'"
            assert connection.execute(waiting_rows).fetchone() == (1,), name
            assert connection.execute("SELECT count(*) FROM run").fetchone() == (3,)
        connection.close()


def test_on_a_read_only_disk_there_is_a_report_and_the_reason(waiting):  # P10
    said, _ = _namespace(waiting, "mount -o remount,ro $S; say ro 'patrol --once'; say status status")
    found = said("ro")
    assert found.status == 10, found
    assert all(f"train{number}" in found.out for number in range(3))
    assert "Read-only file system" in found.err
    assert said("status").status == 0


def test_a_first_tick_on_a_read_only_disk_is_no_crash(folder):
    said, _ = _namespace(folder, "mount -o remount,ro $S; say ro 'patrol --once'")
    assert said("ro").status == 10, said("ro")


@pytest.mark.parametrize("limit", [8, 12, 16])
def test_with_no_descriptor_left_there_is_a_clean_error_and_the_lock_is_free(folder, limit):
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    done = _patrol(folder, before=few)
    assert done.status in (2, 10, 11), done
    assert _patrol(folder).status == 11
    assert _runs(folder) == EVERY_RUN


def test_a_lock_that_the_file_system_does_not_have_is_said(folder):
    import strace

    if reason := strace.available():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    done = strace.run_injected(
        [str(BABYSIT), "patrol", "--once"], "flock", 1, "ENOLCK", env=_environment(folder), cwd=folder.parent
    )
    assert (done.status, done.hit) == (2, True)
    assert b"cannot lock" in done.stderr and b"BABYSIT_STATE=FOLDER on a local disk" in done.stderr
