"""The laptop's disk is full: who only looks gets an answer, who would act is refused before anything happens."""

import json
import os
import shutil

import pytest
from laptop import BABYSIT, files

# A disk of its own for the state folder, seen by one command only: full to the last byte, `$S.copy` is what lies on it.
FULL = (
    "set -e; umask 077; mount -t tmpfs -o size=600k,mode=0700 none $S; cp -a $S.copy/. $S/; "
    'dd if=/dev/zero of=$S/full bs=1k 2>/dev/null || true; set +e; "$@"; code=$?; '
    "rm $S/full; cp -a $S/. $S.after/; exit $code"
)


@pytest.fixture
def full(night):
    """`full(*words)`: the command on a full disk; `full.changed()` what it left other than it was."""
    laptop, job = night
    reason = "" if os.geteuid() == 0 and shutil.which("unshare") else "needs root and unshare"
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    assert laptop.run("arm", "gpu1", job.run, "--", job.waiting()).returncode == 0
    job.up()
    laptop.patrol()
    copy, after = laptop.state.with_name("babysit.copy"), laptop.state.with_name("babysit.after")
    shutil.copytree(laptop.state, copy)

    def run(*words):
        after.mkdir(exist_ok=True)
        laptop.program = ("unshare", "-m", "sh", "-c", FULL, "sh", BABYSIT)
        try:
            done = laptop.run(*words, S=str(laptop.state))
        finally:
            laptop.program = (BABYSIT,)
        assert "Traceback" not in done.stderr, done.said
        return done

    run.left = lambda name: (after / name).read_bytes() if (after / name).exists() else None
    run.was = lambda name: (copy / name).read_bytes()
    return laptop, job, run


def test_on_a_full_disk_who_looks_gets_an_answer(full):  # P10
    laptop, job, run = full
    looks = {
        ("status",): (0, job.run),
        ("logs", "gpu1", job.run): (0, "up"),
        ("check",): (None, "edger"),
        ("explain", "BS-MACHINE"): (0, "BS-MACHINE"),
        ("doctor", "gpu1"): (None, "gpu1"),
        ("resume",): (0, job.run),
        ("patrol", "--once"): (10, job.run),
        ("gc", "gpu1"): (0, "gpu1"),
    }
    for words, (code, shown) in looks.items():
        done = run(*words)
        assert shown in done.stdout, (words, done.said)
        assert code is None or done.returncode == code, (words, done.said)
        assert "babysit: " not in done.stderr or words[0] == "patrol", (words, done.said)
    assert laptop.health(job.run) in ("running", "starting")
    assert job.launches() == 1


def test_on_a_full_disk_who_would_act_is_refused_before_anything_happened(full):  # P8 P10
    laptop, job, run = full
    acts = [
        ("arm", "gpu1", "another", "--json", "--", "true"),
        ("stop", job.run, "--yes"),
        ("trust", "gpu1", "--yes"),
        ("resume", job.run, "--yes", "--grant", "1", "--json"),
        ("disarm", job.run, "--yes", "--json"),
        ("gc", "gpu1", "--yes", "--json"),
        ("check", "--repair", "--json"),
    ]
    box_before = {path: seen.st_mtime_ns for path, seen in files(job.run_folder())}
    for words in acts:
        before = job.box.traffic().connections
        done = run(*words)
        assert done.returncode == 2, (words, done.said)
        assert f"{laptop.state} takes nothing more" in done.said, (words, done.said)
        assert " 0 B free" in done.said and f"df -h {laptop.state}" in done.said, (words, done.said)
        if "--json" in words:
            assert json.loads(done.stdout)["code"] == "BS-MACHINE", (words, done.said)
        assert job.box.traffic().connections == before, f"{words} asked the box"
        assert run.left("audit.log") == run.was("audit.log")
        assert run.left("ledger.db") == run.was("ledger.db")
        assert run.left(".room") is None
    changed = {
        path.name
        for path, seen in files(job.run_folder())
        if path.is_file() and seen.st_mtime_ns != box_before.get(path)
    }
    assert changed <= {"run.log", "visited"}
    assert job.launches() == 1 and laptop.health(job.run) in ("running", "starting")
