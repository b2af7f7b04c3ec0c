"""The whole night in two minutes: a rented box, a training job, its death, its resume, its end.

`make demo` runs this. The box is a real sshd on this machine with keys and a port of its own: in its own
namespaces when we are root, else as a second sshd of the present user. Every line that begins with `$`
is a command anybody can type. Nothing is left behind.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from box import Box, PlainBox  # noqa: E402 - the loopback box that the tests use, too
from receiver import Receiver, receiver  # noqa: E402

EPOCHS, EPOCH_S = 20, 0.8
BABYSIT = Path(sys.executable).with_name("babysit")
SPEC = """
[box.gpu1]
host = "gpu1"

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
command = "python3 train.py --epochs {epochs} --epoch-seconds {epoch_s}"
monitor = true
[[run.iris.stages]]
name = "eval"
command = "python3 evaluate.py"

[notify.phone]
url = "env:DEMO_WEBHOOK"
"""


def main() -> int:
    """Play the story; 0 when each chapter ended as told, else the chapter's number."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="babysit-demo-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        kind = Box if Box.available() is None else PlainBox
        box = kind.start(folder / "box", name="gpu1")
        try:
            with receiver() as phone:
                code = Story(folder, box, phone).tell()
        finally:
            box.stop()
    print(f"\nThat took {time.monotonic() - began:.0f} s. The box, its keys and its files are gone again.")
    return code


class Story:
    """One laptop's folder, one box, one phone."""

    def __init__(self, folder: Path, box: Box | PlainBox, phone: Receiver) -> None:
        self.box = box
        self.phone = phone
        self.home = folder / "laptop"
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        (self.home / ".ssh/config").write_text(box.ssh_config_text("gpu1", with_known_hosts=False))
        self._write_spec(EPOCH_S)
        shutil.copytree(HERE / "iris", box.home / "iris", ignore=shutil.ignore_patterns("__pycache__"))
        if kind_of_root(box):
            owner = box.home.stat()
            for path in (box.home / "iris", *(box.home / "iris").rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid)
        keep = {key: os.environ[key] for key in ("LANG", "TZ", "TERM") if key in os.environ}
        self.env = {
            **keep,
            "PATH": f"{BABYSIT.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "DEMO_WEBHOOK": phone.url(),
        }

    def tell(self) -> int:
        """Every chapter in turn; the number of the first that did not end as it should, else 0."""
        chapters = (
            ("A box was rented. Its key is unknown, so it is confirmed first.", self.trust, 0),
            ("The job is armed. From here on the laptop may be closed.", self.arm, 0),
            ("The patrol asks once ...", self.patrol, 0),
            ("... and again: one line a run, even when nothing changed.", self.later, 0),
            ("3 a.m.: somebody, or the kernel, kills the training with -9.", self.kill, 20),
            ("Someone brand new takes over on one word.", self.look, 20),
            ("They do what it says: the job goes on from its checkpoint.", self.resume, 0),
            ("A sentinel waits for the end, on the box itself.", self.watch, 0),
            ("The phone got these notices:", self.notices, 0),
            ("The results, as the job wrote them:", self.results, 0),
            ("What the training used, both times, from its first instruction to its last:", self.usage, 0),
            ("And the handbook, for whoever comes next (its first lines):", self.handbook, 0),
        )
        for number, (title, chapter, expected) in enumerate(chapters, 1):
            print(f"\n--- {number}. {title}", flush=True)
            code = chapter()
            if code != expected:
                print(f"\nthe demo expected exit {expected} here, not {code}")
                return number
        return 0

    def babysit(self, *words: str, lines: int | None = None) -> int:
        """Run and show one command; with `lines` only so many of its output."""
        print(f"$ babysit {' '.join(words)}", flush=True)
        out = None if lines is None else subprocess.PIPE
        command = [BABYSIT, *words]
        done = subprocess.run(command, env=self.env, cwd=self.home, stdout=out, text=True, check=False)
        if lines is not None:
            print("\n".join(done.stdout.splitlines()[:lines]))
        print(f"(exit {done.returncode})", flush=True)
        return done.returncode

    def trust(self) -> int:
        began = time.monotonic()
        code = self.babysit("trust", "gpu1", "--fingerprint", self.box.fingerprint)
        # Where a command takes longer than a second, so do the epochs: the job must live until it is killed.
        self._write_spec(round(EPOCH_S * max(1.0, time.monotonic() - began), 1))
        return code

    def arm(self) -> int:
        return self.babysit("arm", "gpu1", "iris")

    def patrol(self) -> int:
        self._until(lambda: self._epoch() >= 2, "the training's second epoch")
        return self.babysit("patrol", "--once")

    def later(self) -> int:
        epoch = self._epoch()
        self._until(lambda: self._epoch() >= epoch + 3, "three more epochs")
        return self.babysit("patrol", "--once")

    def kill(self) -> int:
        pid = (self.box.home / "iris/launches.log").read_text().split()[0]
        print(f"$ ssh gpu1 kill -9 {pid}")
        self.box.run(f"kill -9 {pid}")
        failed = self.box.home / ".local/state/babysit/runs"
        self._until(lambda: any(failed.glob("*/end")), "the chain's end record")
        return self.babysit("patrol", "--once")

    def look(self) -> int:
        return self.babysit("resume")

    def resume(self) -> int:
        return self.babysit("resume", "iris", "--yes")

    def watch(self) -> int:
        code = self.babysit("watch", "gpu1", "iris")
        launches = (self.box.home / "iris/launches.log").read_text().count("\n")
        print(f"the job's own launch counter says {launches}")
        return code if launches == 2 else 1

    def notices(self) -> int:
        self._until(lambda: len(self.phone.hits) >= 3, "three notices at the phone")
        for hit in self.phone.hits:
            print(f"  {hit.json['title']}")
        return 0

    def results(self) -> int:
        return self.babysit("results", "gpu1", "iris")

    def usage(self) -> int:
        return self.babysit("usage", "gpu1", "iris")

    def handbook(self) -> int:
        return self.babysit("handbook", "iris", lines=24)

    def _write_spec(self, epoch_s: float) -> None:
        (self.home / "babysit.toml").write_text(SPEC.format(epochs=EPOCHS, epoch_s=epoch_s))

    def _epoch(self) -> int:
        logs = list((self.box.home / ".local/state/babysit/runs").glob("*/run.log"))
        return logs[0].read_text(errors="replace").count("Epoch ") if logs else 0

    def _until(self, condition: Callable[[], object], what: str, bound_s: float = 180.0) -> None:
        deadline = time.monotonic() + bound_s
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"not within {bound_s:g} s: {what}")
            threading.Event().wait(0.1)


def kind_of_root(box: Box | PlainBox) -> bool:
    """Whether the box's files belong to a user of its own."""
    return isinstance(box, Box)


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main())
