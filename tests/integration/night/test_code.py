"""What code a run began with, and what is another by the time somebody resumes it."""

import json
import re

import pytest
from laptop import SOON_S, Laptop
from waiting import wait_until

TRAINER = """import os, sys, time
from pathlib import Path
here = Path(__file__).parent
with (here / "launches").open("a") as log:
    log.write(f"{os.getpid()}\\n")
if not (here / "mended").exists():
    sys.exit("this is broken")
"""


@pytest.fixture
def project(night):
    """A repository with a trainer in the job's folder; babysit.toml on the laptop runs it."""
    laptop, job = night
    (job.folder / "train.py").write_text(TRAINER)
    (job.folder / "lib").mkdir()
    (job.folder / "lib/model.py").write_text("layers = 3\n")
    git(job, "init -q")
    git(job, "add -A")
    git(job, "commit -qm one")
    laptop.spec(
        f"""
        [run.{job.run}]
        box = "gpu1"
        cwd = "{job.folder.name}"
        code = ["lib/*.py"]
        [[run.{job.run}.stages]]
        name = "train"
        command = "python3 train.py"
        """
    )
    return laptop, job


def git(job, words):
    done = job.box.run(f"cd {job.here} && git -c user.name=a -c user.email=a@b {words}")
    assert done.returncode == 0, done.stderr


def told(done):
    return " ".join(done.stdout.split())


def test_what_changed_since_the_last_attempt_is_said_before_the_yes(project):
    laptop, job = project
    armed = laptop.run("arm", "gpu1", job.run)
    assert armed.returncode in (0, 20), armed.said  # 0: its failure came after the moment that arming waits
    assert re.search(r"^code    git [0-9a-f]{7} \(clean\), 2 files hashed$", armed.stderr, re.MULTILINE), (
        armed.stderr
    )
    wait_until(lambda: laptop.health(job.run) == "failed", SOON_S, "its failure")
    kept = json.loads((job.run_folder() / "code.json").read_text())
    assert kept["attempt"] == 1 and {file["path"] for file in kept["files"]} == {"train.py", "lib/model.py"}
    # A fix that lies elsewhere is not here: the code on the box is what failed.
    same = laptop.run("resume", job.run)
    assert re.search(r"Code on the box .*as at attempt 1: git \w{7} \(clean\), 2 files hashed", told(same)), (
        same.said
    )
    (job.folder / "train.py").write_text(TRAINER + "print('mended')\n")
    changed = laptop.run("resume", job.run, "--json").json["code"]
    assert [(each["run"], each["changed"]) for each in changed] == [(job.run, True)]
    file, state = changed[0]["untrusted_says"]
    assert re.fullmatch(r"train\.py changed since attempt 1: [0-9a-f]{4}… → [0-9a-f]{4}…", file)
    assert re.fullmatch(r"git [0-9a-f]{7}: clean → dirty", state)
    carried = laptop.run("resume", job.run, "--yes")
    assert "code on the box: train.py changed since attempt 1" in told(carried), carried.said
    wait_until(lambda: laptop.health(job.run) == "failed" and job.launches() == 2, SOON_S, "attempt 2 fails")
    assert json.loads((job.run_folder() / "code.json").read_text())["attempt"] == 2
    # Compared with what ran last, not with what ran first.
    git(job, "commit -qam two")
    third = laptop.run("resume", job.run)
    assert "changed since" not in told(third) and re.search(r"git \w{7} → \w{7} \(clean\)", told(third)), (
        third.said
    )
    (job.folder / "mended").touch()
    last = laptop.run("resume", job.run, "--yes", "--json")
    assert last.returncode == 0 and last.json["code"]["changed"] is True, last.said
    assert laptop.run("watch", "gpu1", job.run).returncode == 0


def test_who_takes_over_with_an_empty_home_is_told_too(tmp_path, project, shared):  # R99
    laptop, job = project
    assert laptop.run("arm", "gpu1", job.run).returncode in (0, 20)
    wait_until(lambda: laptop.health(job.run) == "failed", SOON_S, "its failure")
    (job.folder / "lib/model.py").write_text("layers = 9\n")
    (job.folder / "lib/\x1b[31mnew.py").write_text("x\n")
    newcomer = Laptop(tmp_path / "newcomer", (shared,))
    at = (
        "--at",
        f"dev@127.0.0.1:{shared.port}",
        "--identity",
        str(shared.key),
        "--fingerprint",
        shared.fingerprint,
    )
    first = newcomer.run("resume", job.run, *at)
    assert "lib/model.py changed since attempt 1" in told(first), first.said
    assert "new.py is new since attempt 1" in told(first) and "\x1b" not in first.stdout
    live = laptop.run("arm", "gpu1", job.run)
    assert live.returncode == 20 and "not as it began: lib/model.py changed" in told(live), live.said
    assert job.launches() == 1
