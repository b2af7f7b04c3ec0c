"""The example training job does what a run under babysit needs: paced, resumable, the same result every time."""

import csv
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from fleet.spec.decode import decode

IRIS = Path(__file__).parents[3] / "examples" / "iris"
EPOCHS = 30
pytestmark = pytest.mark.timeout(180)
MEANS = {"sepal_length": 5.8433, "sepal_width": 3.0573, "petal_length": 3.7580, "petal_width": 1.1993}


def pythons() -> list[str]:
    """One interpreter of each version from 3.8 to 3.13 that this machine has."""
    places = [Path(folder) for folder in os.environ.get("PATH", "").split(":") if folder]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places += sorted(root.glob("versions/*/bin"))
    found = {sys.version_info[:2]: sys.executable}
    for minor in range(8, 14):
        for place in places:
            candidate = place / f"python3.{minor}"
            # A version manager's stand-in is there for versions that are not: only one that runs counts.
            if (3, minor) not in found and candidate.is_file() and _runs(candidate):
                found[3, minor] = str(candidate)
    return [found[version] for version in sorted(found)]


def _runs(python: Path) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True, timeout=60, check=False).returncode == 0


def stage(python: str, script: str, folder: Path, *options: str) -> list[str]:
    """As a person types it, but with warnings as errors and no bytecode left beside the script."""
    return [python, "-B", "-W", "error", str(IRIS / script), "--folder", str(folder), *options]


def bare() -> dict[str, str]:
    """An environment that does not make Python flush or look anywhere by itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(python: str, script: str, folder: Path, *options: str) -> str:
    done = subprocess.run(
        stage(python, script, folder, *options),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=bare(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def whole(python: str, folder: Path) -> str:
    folder.mkdir()
    run(python, "prepare.py", folder)
    said = run(python, "train.py", folder, "--epochs", str(EPOCHS))
    run(python, "evaluate.py", folder)
    return said


def result(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "results.csv").read_bytes(), (folder / "checkpoint.json").read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iris") / "untouched"
    whole(sys.executable, folder)
    return result(folder)


def test_the_data_set_is_fishers():
    with (IRIS / "iris.csv").open(encoding="ascii", newline="") as lines:
        rows = list(csv.DictReader(lines))
    counts = {row["species"]: sum(other["species"] == row["species"] for other in rows) for row in rows}
    assert counts == {"setosa": 50, "versicolor": 50, "virginica": 50}
    for name, mean in MEANS.items():
        assert round(math.fsum(float(row[name]) for row in rows) / len(rows), 4) == mean
    # The two rows that the widespread mistyped copy has otherwise.
    assert list(rows[34].values()) == ["4.9", "3.1", "1.5", "0.2", "setosa"]
    assert list(rows[37].values()) == ["4.9", "3.6", "1.4", "0.1", "setosa"]


@pytest.mark.parametrize("python", pythons())
def test_every_python_prints_each_epoch_and_gets_the_same_good_result(python, tmp_path, expected):
    folder = tmp_path / "work"
    said = whole(python, folder)
    epochs = [line for line in said.splitlines() if line.startswith("Epoch ")]
    assert [line.split(" - ")[0] for line in epochs] == [f"Epoch {n}/{EPOCHS}" for n in range(1, EPOCHS + 1)]
    assert all(" - loss: 0." in line and " - acc: 0." in line for line in epochs)
    assert result(folder) == expected
    numbers = dict(csv.reader((folder / "results.csv").read_text().splitlines()))
    assert float(numbers["test_accuracy"]) > 0.9
    assert int(numbers["epochs"]) == EPOCHS
    assert len((folder / "launches.log").read_text().splitlines()) == 1
    assert not list(folder.rglob("*.new"))


@pytest.mark.parametrize("killed_after", [0, 1, 7, 20])
def test_killed_and_started_again_it_ends_with_the_same_bytes(killed_after, tmp_path, expected):
    folder = tmp_path / "work"
    folder.mkdir()
    run(sys.executable, "prepare.py", folder)
    command = stage(sys.executable, "train.py", folder, "--epochs", str(EPOCHS), "--epoch-seconds", "0.05")
    ours, theirs = socket.socketpair()
    theirs.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDBUF, 1
    )  # a few lines, and it waits: never done before us
    lines = ours.makefile("rb", buffering=0)
    with ours, theirs, lines, subprocess.Popen(command, stdout=theirs, env=bare()) as training:
        if killed_after == 0:
            counted = folder / "launches.log"
            wait_until(lambda: counted.exists() and counted.read_text(), 45, "it counted its launch")
        for _ in range(killed_after):
            assert lines.readline().startswith(b"Epoch "), "a line an epoch, at once"
        training.send_signal(signal.SIGKILL)
        training.wait(45)
    assert training.returncode == -signal.SIGKILL
    first = run(sys.executable, "train.py", folder, "--epochs", str(EPOCHS)).splitlines()[0]
    if killed_after:
        number = int(first.removeprefix("resumed from epoch "))
        assert killed_after <= number < EPOCHS
    run(sys.executable, "evaluate.py", folder)
    assert result(folder) == expected
    lines = (folder / "launches.log").read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].split()[0] == str(training.pid)


def test_a_finished_training_started_again_changes_nothing(tmp_path, expected):
    folder = tmp_path / "work"
    whole(sys.executable, folder)
    said = run(sys.executable, "train.py", folder, "--epochs", str(EPOCHS))
    assert said.splitlines()[0] == f"resumed from epoch {EPOCHS}"
    assert result(folder) == expected


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "checkpoint.json").write_text('{"epoch": 3, '), "is no checkpoint of ours"),
        (lambda folder: (folder / "checkpoint.json").write_text("[]"), "is no checkpoint of ours"),
        (
            lambda folder: (folder / "data/train.csv").write_text("a,species\n0.5,setosa\n"),
            "was trained on other rows",
        ),
    ],
)
def test_a_checkpoint_it_cannot_go_on_from_is_named_and_kept(spoil, says, tmp_path):
    folder = tmp_path / "work"
    whole(sys.executable, folder)
    spoil(folder)
    before = (folder / "checkpoint.json").read_bytes()
    done = subprocess.run(
        stage(sys.executable, "train.py", folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=bare(),
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "checkpoint.json").read_bytes() == before


def test_evaluating_before_training_says_so(tmp_path):
    done = subprocess.run(
        stage(sys.executable, "evaluate.py", tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, "train first" in done.stderr) == (1, True)


def test_its_babysit_toml_is_a_valid_spec_and_the_readme_shows_the_same():
    spec = decode((IRIS / "babysit.toml").read_text(), "babysit.toml")
    run_spec = spec.runs["iris"]
    assert [stage.name for stage in run_spec.stages] == ["prepare", "train", "eval"]
    assert run_spec.box in spec.boxes
    assert (run_spec.artifacts, run_spec.results) == (("checkpoint.json",), ("results.csv",))
    shown = decode((IRIS / "README.md").read_text().split("```toml\n")[1].split("```")[0], "README.md")
    assert shown.runs["iris"].stages == run_spec.stages
