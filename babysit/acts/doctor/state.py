"""Can babysit keep what it knows: the state folder, its modes, room and locks, the ledger, the spec."""

import errno
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from babysit.acts.check import check
from babysit.acts.doctor.ground import Ground
from babysit.acts.doctor.lines import Check, Found, fail, ok, warn
from fleet.arming.preflight_rules import is_network_fs
from fleet.ledger.private import private_folder
from fleet.ledger.store import FILE_NAME
from fleet.text.quote import sh
from fleet.text.say import plural, size

_OTHERS_READ = 0o077
_OTHERS_WRITE = 0o022
_LEAST_BYTES = 16_000_000  # the ledger with its journal, pages and a log of cron's ticks
_FEW_BYTES = 256_000_000
_LEAST_INODES = 64
_MOVE = "export BABYSIT_STATE=FOLDER"


def folder(ground: Ground) -> Iterator[Found]:
    """The state folder is ours alone and can be written; where there is none yet, it can be made."""
    path = ground.place.folder
    if not path.exists():
        above = _nearest(path)
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            yield fail(
                f"{path} is not there and cannot be made in {above}", f"ls -ld {sh(str(above))}", _MOVE
            )
            return
        yield from _written(above, f"{path} is not there yet; the first command makes it")
        return
    private_folder(path)
    mode = path.stat().st_mode & 0o7777
    if mode & _OTHERS_READ:
        yield warn(f"others can look into {path} (mode {mode:04o})", f"chmod 700 {sh(str(path))}")
    else:
        yield from _written(path, f"{path}, yours alone")


def _written(path: Path, says: str) -> Iterator[Found]:
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield fail(f"{path} cannot be written: {error.strerror}", f"df -h {sh(str(path))}", _MOVE)
        return
    yield ok(says)


def files(ground: Ground) -> Iterator[Found]:
    """What lies in the state folder is readable by its owner only."""
    path = ground.place.folder
    if not path.is_dir():
        return
    seen = [(each, each.lstat()) for each in sorted(path.iterdir())]
    loose = [
        each for each, status in seen if status.st_mode & _OTHERS_READ and not stat.S_ISLNK(status.st_mode)
    ]
    if not loose:
        yield ok("whatever lies there is yours alone")
        return
    names = " ".join(sh(str(each)) for each in loose)
    worst = any(each.lstat().st_mode & _OTHERS_WRITE for each in loose)
    says = f"others can {'write' if worst else 'read'} {', '.join(each.name for each in loose)}"
    yield (fail if worst else warn)(says, f"chmod go-rwx {names}")


def room(ground: Ground) -> Iterator[Found]:
    """Bytes and inodes left where the state folder lies."""
    path = _nearest(ground.place.folder)
    found = os.statvfs(path)
    free, inodes = found.f_bavail * found.f_frsize, found.f_favail
    if free < _LEAST_BYTES:
        yield fail(
            f"{size(free)} free for {path}: too little for the ledger", f"df -h {sh(str(path))}", _MOVE
        )
    elif found.f_files and inodes < _LEAST_INODES:
        yield fail(f"{plural(inodes, 'inode')} free for {path}", f"df -i {sh(str(path))}", _MOVE)
    elif free < _FEW_BYTES:
        yield warn(f"{size(free)} free for {path}", f"df -h {sh(str(path))}")
    else:
        yield ok(f"{size(free)} free")


def locks(ground: Ground) -> Iterator[Found]:
    """A lock there keeps another one out, and means so to every machine that sees the folder."""
    path = _nearest(ground.place.folder)
    kind = fs_of(path.resolve(), _mounts())
    try:
        excluded = _keeps_out(path)
    except OSError as error:
        no_lock = error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
        says = "locks do not work" if no_lock else "a lock cannot be tried"
        more = ("without them two ticks could run at once, so every command refuses to",) if no_lock else ()
        yield fail(f"{says} in {path} ({kind or 'file system unknown'}): {error.strerror}", _MOVE, more=more)
        return
    yield of_locks(path, kind, excluded=excluded)


def of_locks(path: Path, kind: str | None, *, excluded: bool) -> Found:
    """What a lock on a file system of type `kind` is worth, after a second one was kept out or not. Pure."""
    if not excluded:
        return fail(f"a lock in {path} ({kind}) does not keep a second one out", _MOVE)
    if is_network_fs(kind):
        more = ("two machines with one state folder could tick at once; SQLite may be damaged there",)
        return warn(f"{path} lies on {kind}, whose locks may hold on this machine only", _MOVE, more=more)
    return ok(f"a lock keeps others out{f', on {kind}' if kind else ''}")


def _keeps_out(path: Path) -> bool:
    with (
        tempfile.NamedTemporaryFile(dir=path, prefix=".doctor.") as first,
        Path(first.name).open("rb") as second,
    ):
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def ledger(ground: Ground) -> Iterator[Found]:
    """The ledger can be read and written by this babysit; all that `babysit check` finds, modes apart."""
    found = [each for each in check(ground.place).findings if each.open_to_others is None]
    for each in found:
        yield (fail if each.unusable or each.damaged else warn)(each.what, each.fix)
    if not found:
        there = (ground.place.folder / FILE_NAME).exists()
        yield ok(
            f"sound; {plural(len(ground.runs), 'open run')}"
            if there
            else "none yet; the first command makes it"
        )


def spec(ground: Ground) -> Iterator[Found]:
    """babysit.toml: where it was found, and every mistake in it."""
    broken, found = ground.place.broken, ground.place.spec
    if broken is not None:
        writable = "can be written" in broken.what
        command = broken.hint if writable else f"${{EDITOR:-vi}} {sh(broken.where)}"
        yield fail(broken.what, command, more=broken.problems)
    elif found.path is None:
        yield warn("no babysit.toml from here upward, and none of your own", "babysit init")
    else:
        parent = Path(found.path).parent
        mode = parent.stat().st_mode
        if mode & 0o002 and not mode & stat.S_ISVTX:
            yield fail(f"any user can replace {found.path}", f"chmod o-w {sh(str(parent))}")
        counts = f"boxes {len(found.boxes)}, runs {len(found.runs)}, targets {len(found.targets)}"
        yield ok(f"{found.path}: {counts}")


def _nearest(path: Path) -> Path:
    """`path`, or the first above it that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return ""


def fs_of(path: Path, mounts: str) -> str | None:
    """The type of the file system of `path` (a resolved one), as /proc/self/mountinfo says. Pure."""
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words, kinds = before.split(" "), after.split(" ")
        if len(words) < 5 or not kinds[0]:  # id parent device root mount-point
            continue
        at = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), words[4]))
        # Of two mounts at one place the later one covers the other.
        if path.is_relative_to(at) and (best is None or len(at.parts) >= best[0]):
            best = (len(at.parts), kinds[0])
    return best[1] if best else None


CHECKS: tuple[Check[Ground], ...] = (
    Check("state", "folder", folder),
    Check("state", "files", files),
    Check("state", "room", room),
    Check("state", "locks", locks),
    Check("state", "ledger", ledger),
    Check("spec", "babysit.toml", spec),
)
