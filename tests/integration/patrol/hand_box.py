"""A run folder made by hand under a temporary HOME, and a real probe of it through a real shell."""

import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import processes
from waiting import wait_until

from fleet import clock
from fleet.link.base import _BOOT, PROBE_MAX_BYTES, packed
from fleet.link.local import LocalLink
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Stage
from fleet.text.frame import request, sections
from fleet.text.templates import box_script
from patrol.ask import request_pairs
from patrol.readers import read_probe

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
SCRIPT = ("frame", "records", "scan", "wait", "probe")
BOX_ID = "b" * 32
MARK_KIB = 1099511627776 + 4242


def boot_id():
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def born(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])


class HandBox:
    """A state folder with runs in it, as the chain would leave them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / ".local/state/babysit"
        (self.state / "runs").mkdir(parents=True)
        (self.state / "box").write_text(f"id={BOX_ID}\n")
        (home / "work").mkdir()

    def run(self, name="train", **spec) -> "HandRun":
        nonce = secrets.token_hex(16)
        run_id = f"{name}-{secrets.token_hex(2)}"
        tag = f"{run_id}-{hashlib.sha256(nonce.encode()).hexdigest()[:16]}"
        spec.setdefault("cwd", str(self.home / "work"))
        run = Run(
            run_id=run_id,
            spec=RunSpec(
                name=name, stages=(Stage("train", "python train.py"), Stage("eval", "true")), **spec
            ),
            box=BoxSpec("gpu1", "localhost"),
            nonce=nonce,
            tag=tag,
            chain="chain-00000000.sh",
            spec_digest="0" * 8,
            armed_at=clock.now() - 3600,
            box_id=BOX_ID,
            launched=True,
        )
        folder = self.state / "runs" / run_id
        (folder / "markers").mkdir(parents=True)
        (folder / "plan").write_text(
            f"format=1\nrun={name}\nrun_id={run_id}\ntag={tag}\nchain=chain-00000000.sh\nonbox=-\npython=-\n"
            f"lockdir={folder}\ncwd={run.spec.cwd or '-'}\nspec_digest=00\n"
            f"stage=01-train {MARK_KIB} fail 1\nstage=02-eval {MARK_KIB + 1} fail 1\n"
        )
        (folder / "nonce").write_text(nonce + "\n")
        for lock in ("chain.lock", "stage.lock"):
            (folder / lock).touch()
        return HandRun(run, folder)

    def link(self) -> LocalLink:
        return LocalLink(env={**os.environ, "HOME": str(self.home)})


class HandRun:
    """One run's folder and the values that the ledger would hold."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        self.folder = folder
        self.log = folder / "run.log"

    def record(self, name, **values):
        lines = [
            f"nonce={values.pop('nonce', self.run.nonce)}",
            *(f"{key}={value}" for key, value in values.items()),
        ]
        (self.folder / name).write_text("\n".join(lines) + "\n")

    def attempt(self, number=1, pid=None, ago_s=600, boot=None):
        pid = os.getpid() if pid is None else pid
        self.record(
            "attempt",
            attempt=number,
            pid=pid,
            born=int(Path("/proc/self/stat").read_text().rpartition(") ")[2].split()[19]),
            boot=boot or boot_id(),
            started_at=int(clock.now() - ago_s),
            how="direct",
        )

    def end(self, state="done", *, attempt=1, why="-", rc="0", signal="-", stage="-", leftovers="-", **more):
        now = int(clock.now())
        self.over_at = now - 120
        self.record(
            "end",
            state=state,
            attempt=attempt,
            stage=stage,
            rc=rc,
            signal=signal,
            how="shell",
            why=why,
            leftovers=leftovers,
            started_at=now - 300,
            ended_at=self.over_at,
            **more,
        )

    def marker(self, stage="01-train", attempt=1, **more):
        now = int(clock.now())
        self.record(
            f"markers/{stage}", stage=stage, attempt=attempt, started_at=now - 300, ended_at=now - 200, **more
        )

    @contextmanager
    def held(self, *locks, how=fcntl.LOCK_EX):
        """These locks held, exclusively as a chain holds them."""
        opened = [(self.folder / f"{lock}.lock").open("a") for lock in locks]
        try:
            for file in opened:
                fcntl.flock(file, how | fcntl.LOCK_NB)
            yield
        finally:
            for file in opened:
                file.close()


def tagged(hand: HandRun, stage="01-train"):
    """A real process that carries the stage's tag, and nothing else of the run."""
    env = {**os.environ, "BABYSIT_TAG": f"{hand.run.tag}/{stage}"}
    child = subprocess.Popen(["sleep", "900"], env=env, start_new_session=True)
    # Popen comes back when the program is about to be laid out: its environment is shown a moment later.
    wait_until(
        lambda: hand.run.tag.encode() in processes.of(child.pid, "environ"), 60, "the tag of a process"
    )
    return child


def answer(
    box: HandBox,
    hands,
    *,
    interpreter="dash",
    histories=None,
    gpu=False,
    wait=None,
    pairs=None,
    limit_s=90,
    path=None,
    looks=3,
):
    """(token, reply bytes, seconds) of one real probe by this shell, through the very line that sshd would run.

    A look whose time ran out in some part says so: as the patrol, we look again then, `looks` times in all.
    """
    token = secrets.token_hex(16)
    runs = [hand.run for hand in hands]
    pairs = request_pairs(runs, histories or {}, gpu=gpu, wait=wait) if pairs is None else pairs
    env = {**os.environ, "HOME": str(box.home)}
    if path:
        env["PATH"] = path
    began = clock.monotonic()
    done = subprocess.run(
        [str(shutil.which(SHELLS[interpreter][0])), *SHELLS[interpreter][1:], "-c", _BOOT],
        input=packed(box_script(*SCRIPT), request(token, pairs), limit_s).partition(b"\n")[2],
        capture_output=True,
        timeout=limit_s,
        env=env,
        cwd="/",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert len(done.stdout) <= PROBE_MAX_BYTES
    if looks > 1 and _ran_out(sections(done.stdout, token, where="gpu1")):
        how = {"interpreter": interpreter, "gpu": gpu, "wait": wait, "limit_s": limit_s, "path": path}
        return answer(box, hands, **how, pairs=pairs, looks=looks - 1)
    return token, done.stdout, clock.monotonic() - began


def _ran_out(found):
    """Whether time was short for something; a GPU's own tool is let hang."""
    planned = {each.run_id for each in found if each.name == "plan" and each.status == 0}
    return any(
        (each.status == 124 and each.name != "gpu")
        or (each.name == "alive" and each.status == 1 and each.run_id in planned)
        for each in found
    )


def probed(box: HandBox, hands, **how):
    """The values that one real probe leads to."""
    token, reply, took_s = answer(box, hands, **how)
    runs = [hand.run for hand in hands]
    return read_probe(sections(reply, token, where="gpu1"), runs, at=clock.now(), took_s=took_s)
