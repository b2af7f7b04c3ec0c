"""Takeover: an empty HOME, the handbook's text and the key are enough to carry a killed training on."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from laptop import BABYSIT, SOON_S, Job, Laptop
from waiting import wait_until

IRIS = Path(__file__).parents[3] / "examples/iris"
EPOCHS = 40
SLOW_S, FAST_S = 2.0, 0.05  # an epoch: long enough to be killed in the middle, however slow the machine
WEBHOOK = "json://127.0.0.1:9/canary-hook-5521"
FIRST_SCREEN_LINES = 32
SPEC = f"""
[run.iris]
box = "gpu1"
cwd = "iris"
artifacts = ["checkpoint.json"]
results = ["results.csv"]

[[run.iris.stages]]
name = "prepare"
command = "python3 prepare.py"
[[run.iris.stages]]
name = "train"
command = "python3 train.py --epochs {EPOCHS} --epoch-seconds $(cat pace)"
[[run.iris.stages]]
name = "eval"
command = "python3 evaluate.py"

[notify.phone]
url = "env:PHONE_URL"
"""


@pytest.fixture
def iris(box):
    """The example on the box, with its own launch counter."""
    shutil.copytree(IRIS, box.home / "iris", ignore=shutil.ignore_patterns("__pycache__"))
    (box.home / "iris/pace").write_text(f"{SLOW_S}\n")
    owner = box.home.stat()
    for path in (box.home / "iris", *(box.home / "iris").rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    return Job(box, "iris", run="iris")


@pytest.fixture
def owner(tmp_path, box):
    """The laptop that arms the run: its key lies where the handbook will name it."""
    laptop = Laptop(tmp_path / "owner", (box,))
    config = laptop.home / ".ssh/config"
    config.write_text(config.read_text().replace(f'"{box.key}"', "~/.ssh/rented"))
    _give_key(box, laptop.home)
    laptop.spec(SPEC)
    laptop.env["PHONE_URL"] = WEBHOOK
    yield laptop
    laptop.close()


def _give_key(box, home):
    (home / ".ssh").mkdir(parents=True, mode=0o700, exist_ok=True)
    shutil.copy(box.key, home / ".ssh/rented")


def _fenced(page, heading):
    """The one command of the fenced block below `heading`, as it stands there."""
    block = page.partition(heading)[2]
    found = re.search(r"^(`{3,})[^\n]*\n(.*?)\n\1$", block, re.MULTILINE | re.DOTALL)
    assert found, f"no command below {heading!r}: {page}"
    return found[2]


def _typed(home, command):
    """`command` verbatim in a shell of somebody with this HOME and babysit installed."""
    env = {"HOME": str(home), "PATH": f"{BABYSIT.parent}:/usr/bin:/bin", "LANG": "C.UTF-8"}
    words = ["/bin/sh", "-c", command]
    return subprocess.run(
        words,
        env=env,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def _killed_training(owner, iris):
    """The run, armed, and its training killed by -9 after some epochs."""
    armed = owner.run("arm", "gpu1", "iris")
    assert armed.returncode == 0, armed.said
    checkpoint = iris.folder / "checkpoint.json"
    wait_until(
        lambda: checkpoint.exists() and json.loads(checkpoint.read_text())["epoch"] >= 3, SOON_S, "epoch 3"
    )
    pid = (iris.folder / "launches.log").read_text().split()[0]
    iris.box.run(f"kill -9 {pid}")
    iris.ended()
    (iris.folder / "pace").write_text(f"{FAST_S}\n")
    assert iris.record("end")["state"] == "failed"


def _reference(folder):
    """What a training that nobody killed writes."""
    shutil.copytree(IRIS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for words in (["prepare.py"], ["train.py", "--epochs", str(EPOCHS)], ["evaluate.py"]):
        subprocess.run([sys.executable, *words], cwd=folder, check=True, capture_output=True)
    return (folder / "results.csv").read_bytes()


def test_somebody_with_the_page_and_the_key_alone_finishes_the_run(
    tmp_path, owner, iris
):  # R99 R107 R89 P6 R84
    _killed_training(owner, iris)
    assert owner.health("iris") == "failed"
    page = owner.run("handbook", "iris").stdout
    assert page.rstrip("\n") == (iris.run_folder() / "handbook.md").read_text().rstrip("\n")

    newcomer = tmp_path / "newcomer"
    _give_key(iris.box, newcomer)
    screen = "\n".join(page.splitlines()[:FIRST_SCREEN_LINES])
    first = _typed(newcomer, _fenced(screen, "**First command**"))
    assert first.returncode == 20, first.stdout + first.stderr
    told = " ".join(first.stdout.split())
    assert "iris gpu1 failed stage train ended" in told and "SIGKILL" in told and "attempt 2 of 3" in told, (
        told
    )
    assert (iris.folder / "launches.log").read_text().count("\n") == 1  # it only reads
    carried = _typed(newcomer, _fenced(screen, "**To carry on**"))
    assert carried.returncode == 0, carried.stdout + carried.stderr
    watched = _typed(newcomer, "babysit watch gpu1 iris")
    assert watched.returncode == 0, watched.stdout + watched.stderr

    assert (iris.folder / "launches.log").read_text().count("\n") == 2
    log = (iris.run_folder() / "run.log").read_text()
    assert re.search(r"^resumed from epoch ([3-9]|[12]\d)$", log, re.MULTILINE), log
    assert log.count(f"Epoch {EPOCHS}/{EPOCHS} ") == 1 and log.count("Epoch 1/") == 1
    results = _typed(newcomer, "babysit results gpu1 iris --raw").stdout
    assert results.encode() == (iris.folder / "results.csv").read_bytes() == _reference(tmp_path / "alone")
    # The one who armed it sees the same truth.
    assert owner.health("iris") == "finished"


def test_a_page_holds_no_secret_and_a_wrong_fingerprint_sends_nothing(
    tmp_path, owner, iris
):  # R106 S1 S8 S44
    assert owner.run("arm", "gpu1", "iris").returncode == 0
    nonce = (iris.run_folder() / "nonce").read_text().strip()
    pages = [*(owner.state / "handbook").glob("*.md"), iris.run_folder() / "handbook.md"]
    assert len(pages) == 3
    for text in [page.read_text() for page in pages]:
        assert "iris" in text and nonce not in text and "canary-hook" not in text and "PHONE_URL" not in text

    page = owner.run("handbook", "iris").stdout
    command = _fenced(page, "**First command**")
    assert iris.box.fingerprint in command
    _give_key(iris.box, tmp_path / "newcomer")
    before = iris.box.traffic()
    wrong = _typed(tmp_path / "newcomer", command.replace(iris.box.fingerprint, "SHA256:" + "B" * 43))
    assert wrong.returncode == 4 and iris.box.fingerprint in wrong.stderr, wrong.stderr
    now = iris.box.traffic()
    assert (now.logins, now.auth_attempts) == (before.logins, before.auth_attempts)
    assert owner.run("stop", "iris", "--yes").returncode == 0


def test_a_box_with_the_same_image_key_is_not_taken_for_the_one_we_know(tmp_path, make_box):  # S4 R25
    """Two machines of one image: the run of the second is adopted under a name of its own, and that is said."""
    mine, twin = make_box("gpu1"), make_box("gpu2")
    for file in mine.folder.glob("host_key_*"):
        shutil.copy2(file, twin.folder / file.name)
    twin.drop_sshd()
    twin.raise_sshd()
    owner, other = Laptop(tmp_path / "owner", (mine,)), Laptop(tmp_path / "other", (twin,))
    (other.home / ".ssh/config").write_text(twin.ssh_config_text("gpu1"))
    try:
        assert owner.run("arm", "gpu1", "here", "--", "true").returncode == 0
        assert other.run("arm", "gpu1", "there", "--", "true").returncode == 0
        at = f"{twin.user}@127.0.0.1:{twin.port}"
        found = owner.run(
            "resume", "there", "--at", at, "--identity", str(twin.key), "--fingerprint", mine.fingerprint
        )
        assert "it is not gpu1: the same host key" in found.stderr, found.said
        boxes = {run["run"]: run["box"] for run in owner.run("status", "--json").json["runs"]}
        assert boxes["here"] == "gpu1" and boxes["there"].startswith("gpu1-"), boxes
        at = f"{mine.user}@127.0.0.1:{mine.port}"
        found = owner.run(
            "resume", "here", "--at", at, "--identity", str(mine.key), "--fingerprint", mine.fingerprint
        )
        assert "it is gpu1: the same host key and box id" in found.stderr, found.said
    finally:
        owner.close()
        other.close()
