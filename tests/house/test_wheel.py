"""What is installed is what stands here: built, unpacked and used from the wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(180)  # it is built first


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, capture_output=True, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


def from_wheel(unpacked, code: str) -> subprocess.CompletedProcess[str]:
    first = f"import sys; sys.path.insert(0, {str(unpacked)!r}); "
    return subprocess.run(
        [sys.executable, "-c", first + code], cwd="/", capture_output=True, text=True, check=False
    )


def test_the_templates_in_the_wheel_are_those_of_the_checkout(unpacked):
    done = from_wheel(unpacked, "from fleet.text.templates import folder; print(folder())")
    assert done.stdout.strip() == str(unpacked / "babysit" / "templates")
    here = {
        path.relative_to(ROOT / "templates"): path.read_bytes()
        for path in (ROOT / "templates").rglob("*")
        if path.is_file()
    }
    packed = unpacked / "babysit" / "templates"
    there = {path.relative_to(packed): path.read_bytes() for path in packed.rglob("*") if path.is_file()}
    assert here == there and len(here) > 8


def test_the_tool_for_the_box_is_the_same_from_the_wheel(unpacked):
    code = "from fleet.arming.ship import build_pyz; print(build_pyz()[1])"
    here = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert from_wheel(unpacked, code).stdout == here


def test_the_command_runs_from_the_wheel(unpacked):
    done = from_wheel(unpacked, "sys.argv = ['babysit', '--help']; from babysit.entry import main; main()")
    assert done.returncode == 0 and "arm" in done.stdout, done.stderr


def test_the_wheel_holds_nothing_else(unpacked):
    tops = {path.name for path in unpacked.iterdir()}
    assert tops == {
        "babysit",
        "fleet",
        "handbook",
        "onbox",
        "patrol",
        "sentinels",
        f"babysit-{version()}.dist-info",
    }


def version() -> str:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
