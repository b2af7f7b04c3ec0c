"""What a box has, asked in one visit before anything is armed there."""

import re
import secrets

import msgspec
from msgspec import Struct

from fleet import clock
from fleet.arming.ask import Answer, ask, checked_name
from fleet.arming.code import code_pairs, read_code
from fleet.errors import ProbeUnreadable
from fleet.link.base import Link
from fleet.model.run import Code
from fleet.model.spec import BoxSpec, RunSpec
from fleet.text.untrusted import render_untrusted

_ABSOLUTE = re.compile(r"/[\x20-\x7e]{0,1000}")
_HEX32 = re.compile(r"[0-9a-f]{32}")
_SHOWN_CHARS = 120
_LONG = frozenset({"python", "state_error", "lock_error"})  # paths, and sentences with paths in them
_DF_COLUMNS = 6  # device, total, used, free, percent, mount


class BoxReport(Struct, frozen=True):
    """One box as it answered. None: not there, or it could not be read.

    Paths are the box's, absolute. `*_error` has the box's words why a folder cannot be written.
    `now` is the box's clock (epoch seconds) when it answered, `skew_s` that minus the host's clock.
    `gpus` is empty where nvidia-smi sees none. `onbox_sum` is POSIX cksum and size of the shipped tool.
    `owner` is the run id that has the run's name. `noise_bytes` came before the frame. `code` is what a start
    would run, None where nobody asked or the folder cannot be entered.
    """

    box: str
    home: str
    state_dir: str
    state_error: str | None
    state_fs: str | None
    free_bytes: int | None
    free_inodes: int | None
    lock_dir: str
    lock_error: str | None
    lock_fs: str | None
    cwd: str | None
    cwd_there: bool | None
    os: str | None
    arch: str | None
    sh: str | None
    bash: str | None
    python: str | None
    python_version: str | None
    tmux: str | None
    setsid: str | None
    flock: str | None
    perl: str | None
    timeout: str | None
    gpus: tuple[str, ...] | None
    uid: int | None
    user: str | None
    boot_id: str | None
    machine_id: str | None
    box_id: str | None
    onbox_sum: tuple[int, int] | None
    owner: str | None
    now: float
    skew_s: float
    noise_bytes: int
    took_s: float
    code: Code | None = None

    @property
    def lock_tool(self) -> str | None:
        """The tool that takes the kernel's locks for a script: flock, else python, else perl."""
        return self.flock or self.python or self.perl


def preflight(
    link: Link,
    *,
    box: BoxSpec,
    run_name: str,
    onbox_name: str,
    limit_s: float,
    cwd: str | None = None,
    spec: RunSpec | None = None,
    dry: bool = False,
) -> BoxReport:
    """All that arming needs to know of `box`, by one round trip; makes its state folder and its id.

    With `spec` it also says what code that run would start with. `dry`: nothing is made.

    Raises UsageError for a name that is none, BoxRefused when the box knows no home folder,
    ProbeUnreadable, LinkError.
    """
    pairs = [
        ("state", box.state_dir or "-"),
        ("lockdir", box.lock_dir or "-"),
        ("cwd", cwd or "-"),
        ("run", checked_name(run_name, what="run name")),
        ("onbox", checked_name(onbox_name, what="name of the shipped tool")),
        ("newid", secrets.token_hex(16)),
        ("dry", "yes" if dry else "no"),
        *(code_pairs(spec) if spec else ()),
    ]
    answer = ask(link, ("frame", "ground", "code", "preflight"), pairs, where=box.name, limit_s=limit_s)
    report = read_report(answer, host_now=clock.now())
    if spec is None:
        return report
    return msgspec.structs.replace(report, code=read_code(answer, spec))


def read_report(answer: Answer, *, host_now: float) -> BoxReport:
    """`answer` as a report. Pure. Raises ProbeUnreadable for an answer without its folders or its clock."""
    began, ended = _clock(answer)
    python_version, _, python = (_shown(answer, "python") or "").partition(" ")
    uid, _, user = (_shown(answer, "user") or "").partition(" ")
    cwd = answer.get("cwd")
    return BoxReport(
        box=answer.where,
        home=_folder(answer, "home"),
        state_dir=_folder(answer, "state"),
        state_error=_shown(answer, "state_error"),
        state_fs=_shown(answer, "fs"),
        free_bytes=_kib(_df_free(answer, "room")),
        free_inodes=_df_free(answer, "inodes"),
        lock_dir=_folder(answer, "lockdir"),
        lock_error=_shown(answer, "lock_error"),
        lock_fs=_shown(answer, "lock_fs"),
        cwd=None if cwd is None else cwd.text,
        cwd_there=None if cwd is None else cwd.status == 0,
        os=_shown(answer, "os"),
        arch=_shown(answer, "arch"),
        sh=_tool(answer, "sh"),
        bash=_tool(answer, "bash"),
        python=python if _ABSOLUTE.fullmatch(python) else None,
        python_version=python_version if _ABSOLUTE.fullmatch(python) else None,
        tmux=_shown(answer, "tmux"),
        setsid=_tool(answer, "setsid"),
        flock=_tool(answer, "flock"),
        perl=_tool(answer, "perl"),
        timeout=_tool(answer, "timeout"),
        gpus=_gpus(answer),
        uid=int(uid) if uid.isdecimal() else None,
        user=user or None,
        boot_id=_shown(answer, "boot"),
        machine_id=_shown(answer, "machine"),
        box_id=_hex(answer.word("box")),
        onbox_sum=_sum(answer.word("onbox")),
        owner=answer.word("owner"),
        now=ended,
        skew_s=ended - (host_now - max(0.0, answer.took_s - (ended - began)) / 2),
        noise_bytes=answer.noise_bytes,
        took_s=answer.took_s,
    )


def _shown(answer: Answer, name: str) -> str | None:
    word = answer.word(name)
    shown = _SHOWN_CHARS * (8 if name in _LONG else 1)
    return None if word is None else render_untrusted(word.replace("\n", "; "), shown)


def _folder(answer: Answer, name: str) -> str:
    path = answer.must(name).text
    if not path.startswith("/") or "\n" in path or "\0" in path:
        raise ProbeUnreadable(f"the box names no folder for {name!r}", where=answer.where)
    return path


def _tool(answer: Answer, name: str) -> str | None:
    path = answer.word(name)
    return path if path is not None and _ABSOLUTE.fullmatch(path) else None


def _df_free(answer: Answer, name: str) -> int | None:
    """The fourth column of a `df -P` line; None where the file system counts no such thing."""
    words = (answer.word(name) or "").split()
    if len(words) < _DF_COLUMNS or not words[1].isdecimal() or not words[3].isdecimal():
        return None
    return None if int(words[1]) == 0 else int(words[3])


def _kib(count: int | None) -> int | None:
    return None if count is None else count * 1024


def _gpus(answer: Answer) -> tuple[str, ...] | None:
    section = answer.get("gpus")
    if section is None or section.status != 0:
        return None
    return tuple(
        render_untrusted(line.strip(), _SHOWN_CHARS) for line in section.text.splitlines() if line.strip()
    )


def _hex(word: str | None) -> str | None:
    return word if word is not None and _HEX32.fullmatch(word) else None


def _sum(word: str | None) -> tuple[int, int] | None:
    numbers = (word or "").split()
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):  # cksum and size
        return None
    return int(numbers[0]), int(numbers[1])


def _clock(answer: Answer) -> tuple[float, float]:
    """The box's clock at begin and end; a date(1) without %N gives whole seconds, whose middle we take."""
    match = re.fullmatch(r"(\d{1,12})(\.\d{1,9})?\S* (\d{1,12})(\.\d{1,9})?\S*", answer.must("clock").text)
    if match is None:
        raise ProbeUnreadable("the box's date(1) prints no seconds", where=answer.where)
    began, began_part, ended, ended_part = match.groups()
    return float(began + (began_part or ".5")), float(ended + (ended_part or ".5"))
