"""Runs that an older babysit armed, as it left them on a box: tests/data/runs/format-1 is never made anew."""

import os
import shutil
from pathlib import Path

FORMAT_1 = Path(__file__).parent / "data/runs/format-1"
RUNS = {
    "queued": "queued-k3f9a",
    "failed": "failed-m2x7q",
    "finished": "finished-t8wrd",
    "stopped": "stopped-c4hnz",
    "gone": "gone-p9bev",
}


def lay_out(home: Path) -> Path:
    """The old runs in the state folder of `home`, with their folders of work; returns the state folder."""
    state = home / ".local/state/babysit"
    shutil.copytree(FORMAT_1 / "runs", state / "runs")
    shutil.copy(FORMAT_1 / "box", state / "box")
    (state / "names").mkdir()
    for name, run_id in RUNS.items():
        # A repository keeps neither links nor empty folders as a box has them.
        (state / "names" / name).symlink_to((FORMAT_1 / "names" / name).read_text().strip())
        (state / "runs" / run_id / "markers").mkdir(exist_ok=True)
        (home / "job" / name).mkdir(parents=True)
    for path in (state, *state.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)
    return state


def give_to(home: Path, uid: int, gid: int) -> None:
    """All of `home` to the box's user."""
    for path in (home, *home.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)
