"""A laptop for tests: a HOME of its own, an alias for a box, and the real `babysit` program in child processes."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import processes
from box import Box, PlainBox
from waiting import wait_until

BABYSIT = Path(sys.executable).with_name("babysit")
SOON_S = 60  # for what takes a moment where nothing else is at work


def end_all(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Each gets the signal; who has gone meanwhile needs none."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def files(top: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below `top` with what it is; what goes away while we look was never there."""
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat()


class Done(subprocess.CompletedProcess[str]):
    """One finished command; `json` is its one document."""

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.stdout)

    @property
    def said(self) -> str:
        return self.stdout + self.stderr


class Laptop:
    """`run(...)` calls babysit with this laptop's HOME and nothing of ours; `program` may be another copy."""

    program: tuple[str | Path, ...] = (BABYSIT,)

    def __init__(self, home: Path, boxes: tuple[Box | PlainBox, ...], *, known: bool = True) -> None:
        self.home = home
        self.boxes = boxes
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        text = "".join(box.ssh_config_text(box.name, with_known_hosts=known) for box in boxes)
        (home / ".ssh/config").write_text(text)
        self.env = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        self.state = home / ".local/state/babysit"
        self.children: list[subprocess.Popen[str]] = []

    def spec(self, text: str) -> None:
        (self.home / "babysit.toml").write_text(textwrap.dedent(text))

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [*self.program, *words],
            env={**self.env, **env},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.children.append(child)
        return child

    def couriers(self) -> list[int]:
        """The pids of couriers that work for this laptop's ledger."""
        words = f"fleet.notices.courier\0{self.state}\0".encode()
        return [
            pid for pid in processes.pids() if words in processes.of(pid, "cmdline") and processes.lives(pid)
        ]

    def close(self) -> None:
        """End what a test left waiting, and a courier that would go on trying."""
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.communicate()
        end_all(self.couriers())

    def run(self, *words: str, limit_s: float = 150, **env: str) -> Done:
        child = self.start(*words, **env)
        try:
            out, err = child.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            raise AssertionError(
                f"babysit {' '.join(words)} did not end in {limit_s} s: {out}{err}"
            ) from None
        return Done(child.args, child.returncode, out, err)

    def patrol(self) -> dict[str, Any]:
        """One tick's document, with its exit code checked against the process's."""
        done = self.run("patrol", "--once", "--json")
        assert done.json["exit_code"] == done.returncode, done.said
        return done.json

    def health(self, run: str) -> str:
        return next(found["health"] for found in self.patrol()["runs"] if found["run"] == run)


class Job:
    """A job on the box that keeps its own account, seen from the host's side of the box's home folder."""

    def __init__(self, box: Box | PlainBox, name: str = "job", run: str = "train") -> None:
        self.box = box
        self.run = run
        self.folder = box.home / name
        self.folder.mkdir(exist_ok=True)
        owner = box.home.stat()
        os.chown(self.folder, owner.st_uid, owner.st_gid)
        self.here = f"$HOME/{name}"

    def command(self, then: str, first: str = "") -> str:
        """A stage that counts its launch, notes its pid, then does `then` ($W is its folder)."""
        return f"W={self.here}; {first}echo $$ >> $W/launches; {then}"

    def waiting(self, then: str = ":") -> str:
        """A stage that lasts until `release`. It has spoken when its launch is counted."""
        return self.command(f"while [ ! -e $W/go ]; do sleep 0.1; done; {then}", "echo up; ")

    def release(self) -> None:
        (self.folder / "go").touch()

    def launches(self) -> int:
        file = self.folder / "launches"
        return file.read_text().count("\n") if file.exists() else 0

    def pid(self) -> int:
        return int((self.folder / "launches").read_text().split()[-1])

    def up(self, count: int = 1) -> None:
        wait_until(lambda: self.launches() >= count, SOON_S, f"launch {count} of the job")

    def run_folder(self) -> Path:
        folders = list((self.box.home / ".local/state/babysit/runs").glob(f"{self.run}-?????"))
        assert len(folders) == 1, folders
        return folders[0]

    def record(self, name: str) -> dict[str, str]:
        try:
            text = (self.run_folder() / name).read_text()
        except FileNotFoundError:
            return {}
        return dict(line.split("=", 1) for line in text.splitlines())

    def held(self, *names: str) -> bool:
        """Whether somebody has one of the run's locks: `chain` the chain itself, `stage` it or what it started."""
        for name in names:
            with (self.run_folder() / f"{name}.lock").open() as file:
                try:  # as the box's own looks do, for a moment
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False

    def ended(self) -> None:
        """Until its newest attempt has an end record and nothing of it is left, its last `sleep` included."""

        def over() -> bool:
            last = self.record("end").get("attempt")
            return last is not None and last == self.record("attempt")["attempt"]

        wait_until(over, SOON_S, "an end record")
        wait_until(lambda: not self.held("chain", "stage"), SOON_S, "nothing of it is left")
