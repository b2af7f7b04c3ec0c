"""What speaks against arming a run on a box, and what its owner should know: two tables. Pure."""

import re
from collections.abc import Callable

from msgspec import Struct

from fleet.arming.buffering import holds_back
from fleet.arming.chain import spec_file
from fleet.arming.preflight import BoxReport
from fleet.arming.read_run import SPEC_BYTES_MAX
from fleet.errors import BoxRefused
from fleet.model.spec import BoxSpec, RunSpec, Stage
from fleet.text import quote, say
from fleet.text.by_hand import by_hand
from fleet.text.untrusted import render_untrusted

FREE_BYTES_MIN = 4 * 1024 * 1024  # scripts, records and their reserve; what the run writes is its own matter
FREE_INODES_MIN = 64
SKEW_MAX_S = 60.0

# flock(2) may be local to one machine there, or fail, or hang. Source: the kernel's names in /proc/mounts and
# those of stat -f for the same.
_NETWORK_FS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"}
    | {"nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs"}
)
_VOLATILE_FS = frozenset({"tmpfs", "ramfs"})
_ELSEWHERE = ("docker", "podman", "sbatch", "srun", "ssh")
_ELSEWHERE_CALL = re.compile(rf"(?:^|[\s;&|(`])(?:/[\w./-]*/)?({'|'.join(_ELSEWHERE)})(?=[\s;)]|$)")
_QUIET_TEXT = re.compile(r"\\.|'[^']*'|\"(?:[^\"\\$`]|\\.|\$(?!\())*\"", re.DOTALL)
_PIPE = re.compile(r"(?<![|>])\|(?!\|)")
_CARRIAGE_RETURN = re.compile(r"\r(?:\n|\Z)")


class Asked(Struct, frozen=True):
    """What a rule looks at."""

    report: BoxReport
    spec: RunSpec
    box: BoxSpec


class Refusal(Struct, frozen=True):
    """One reason not to arm. `when` decides; `what`, `hint` and `next` are what a person reads.

    `about` is the thing it speaks of, as doctor names it; empty for what only a run can have.
    """

    when: Callable[[Asked], bool]
    what: Callable[[Asked], str]
    hint: Callable[[Asked], str]
    next: Callable[[Asked], tuple[str, ...]]
    about: str = ""


class Remark(Struct, frozen=True):
    """One thing to know that stops nothing; `about` as in Refusal."""

    when: Callable[[Asked], bool]
    says: Callable[[Asked], str]
    about: str = ""


def refusals(report: BoxReport, spec: RunSpec, box: BoxSpec) -> tuple[BoxRefused, ...]:
    """Every reason why `spec` cannot be armed on the box of `report`; empty when it can."""
    asked = Asked(report, spec, box)
    return tuple(
        BoxRefused(row.what(asked), where=box.name, hint=row.hint(asked), next=row.next(asked))
        for row in REFUSALS
        if row.when(asked)
    )


def warnings(report: BoxReport, spec: RunSpec, box: BoxSpec) -> tuple[str, ...]:
    """What works less well on this box, one sentence each; empty when all is there."""
    asked = Asked(report, spec, box)
    return tuple(row.says(asked) for row in REMARKS if row.when(asked))


def is_network_fs(kind: str | None) -> bool:
    """Whether locks on a file system of this type are not to be trusted. An unknown one is taken as local."""
    return kind is not None and (kind in _NETWORK_FS or kind.startswith("fuse."))


def has_pipe(command: str) -> bool:
    """Whether `command` seems to hold a pipe outside quotes; a `|` in a case pattern counts too."""
    return _PIPE.search(_QUIET_TEXT.sub("_", command)) is not None


def _piped(asked: Asked) -> list[Stage]:
    return [stage for stage in asked.spec.stages if stage.strict and has_pipe(stage.command)]


def _written_by_windows(asked: Asked) -> list[str]:
    """What of `asked` has lines that end in a carriage return, by name."""
    commands = [(f"stage {stage.name}", stage.command) for stage in asked.spec.stages]
    return [
        name
        for name, command in (*commands, ("checkpoint", asked.spec.checkpoint or ""))
        if _CARRIAGE_RETURN.search(command)
    ]


def _elsewhere(asked: Asked) -> list[str]:
    calls = [(stage.name, _ELSEWHERE_CALL.search(stage.command)) for stage in asked.spec.stages]
    return [f"{name} ({call[1]})" for name, call in calls if call]


def _watched(asked: Asked) -> list[str]:
    return [stage.name for stage in asked.spec.stages if stage.monitor]


def _buffered(asked: Asked) -> list[str]:
    found = [(stage.name, holds_back(stage.command)) for stage in asked.spec.stages]
    return [f"{name} ({words})" for name, words in found if words]


def _on_box(asked: Asked, command: str) -> tuple[str, ...]:
    return (f"{by_hand(asked.box)} {quote.sh(command)}", _arm(asked))


def _arm(asked: Asked) -> str:
    return f"babysit arm {asked.box.name} {asked.spec.name}"


def _low(count: int | None, least: int) -> bool:
    return count is not None and count < least


def _words(text: str | None) -> str:
    return render_untrusted((text or "").replace("\n", "; "), 300)


REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        about="lock tool",
        when=lambda a: a.report.lock_tool is None,
        what=lambda _: "no tool to take locks: neither flock, nor python3 (3.8 or newer), nor perl is there",
        hint=lambda _: "without a lock two starts could run at once; util-linux has flock",
        next=lambda a: _on_box(a, "command -v flock python3 perl"),
    ),
    Refusal(
        about="disk",
        when=lambda a: _low(a.report.free_bytes, FREE_BYTES_MIN),
        what=lambda a: (
            f"disk full: {say.size(a.report.free_bytes or 0)} free for {_words(a.report.state_dir)}, "
            f"at least {say.size(FREE_BYTES_MIN)} are needed"
        ),
        hint=lambda _: "free some room, or set the box's state_dir to a folder on another disk",
        next=lambda a: _on_box(a, "df -h"),
    ),
    Refusal(
        about="inodes",
        when=lambda a: _low(a.report.free_inodes, FREE_INODES_MIN),
        what=lambda a: (
            f"no inodes left: {a.report.free_inodes} free for {_words(a.report.state_dir)}, "
            f"at least {FREE_INODES_MIN} are needed"
        ),
        hint=lambda _: "many small files fill a disk that df calls half empty; remove some, or set state_dir",
        next=lambda a: _on_box(a, "df -i"),
    ),
    Refusal(
        about="state folder",
        when=lambda a: a.report.state_error is not None,
        what=lambda a: f"cannot write the state folder {_words(a.report.state_dir)}",
        hint=lambda a: f"the box says: {_words(a.report.state_error)}",
        next=lambda a: _on_box(a, "id; df -h; ls -la"),
    ),
    Refusal(
        about="lock folder",
        when=lambda a: a.report.lock_error is not None,
        what=lambda a: f"cannot write the lock folder {_words(a.report.lock_dir)}",
        hint=lambda a: f"the box says: {_words(a.report.lock_error)}; lock_dir may name another folder",
        next=lambda a: _on_box(a, "id; df -h; ls -la"),
    ),
    Refusal(
        about="box id",
        when=lambda a: a.report.state_error is None and a.report.box_id is None,
        what=lambda a: f"the box's own id is damaged: {_words(a.report.state_dir)}/box",
        hint=lambda _: "it tells this box from a recycled one; remove the file only if you know the box",
        next=lambda a: _on_box(a, f"cat {quote.sh(_words(a.report.state_dir) + '/box')}"),
    ),
    Refusal(
        about="lock folder",
        when=lambda a: is_network_fs(a.report.lock_fs),
        what=lambda a: f"locks cannot be trusted on {a.report.lock_fs}: {_words(a.report.lock_dir)}",
        hint=lambda a: (
            "lock_dir must name a folder on a disk of the box itself"
            if a.box.lock_dir
            else "set the box's lock_dir to a folder on a disk of the box itself; the records may stay"
        ),
        next=lambda a: _on_box(a, "df -hT"),
    ),
    Refusal(
        when=lambda a: a.report.bash is None and bool(_piped(a)),
        what=lambda a: (
            f"no bash, and stage {_piped(a)[0].name} has a pipe: sh hides a failure of its first part"
        ),
        hint=lambda _: "install bash on the box, write the stage without a pipe, or set strict = false",
        next=lambda a: (_arm(a),),
    ),
    Refusal(
        when=lambda a: bool(_written_by_windows(a)),
        what=lambda a: f"{', '.join(_written_by_windows(a))}: a line ends in a carriage return (CRLF)",
        hint=lambda _: "the box's shell takes it for a part of the last word; write the lines with LF alone",
        next=lambda a: (_arm(a),),
    ),
    Refusal(
        when=lambda a: len(spec_file(a.spec)) > SPEC_BYTES_MAX,
        what=lambda a: f"too long: the run's commands have {say.size(len(spec_file(a.spec)))} in all",
        hint=lambda _: f"{say.size(SPEC_BYTES_MAX)} can be kept; put long text into a file on the box",
        next=lambda a: (_arm(a),),
    ),
    Refusal(
        when=lambda a: a.report.cwd_there is False,
        what=lambda a: f"no such folder on the box: {_words(a.report.cwd)}",
        hint=lambda _: "cwd is a path on the box; ~ is its home folder",
        next=lambda a: _on_box(a, f"mkdir -p {quote.sh(_words(a.report.cwd))}"),
    ),
)

REMARKS: tuple[Remark, ...] = (
    Remark(
        about="detach",
        when=lambda a: a.report.tmux is None,
        says=lambda a: (
            "no tmux: the run is detached by setsid: as safe, but no screen to attach to"
            if a.report.setsid
            else "neither tmux nor setsid: a login shell that cleans up behind itself could end the run"
        ),
    ),
    Remark(
        about="python",
        when=lambda a: a.report.python is None,
        says=lambda a: (
            "no python 3.8 or newer: a stage's signal is not told from its exit status"
            + (f", and {', '.join(_watched(a))} is not watched" if _watched(a) else "")
        ),
    ),
    Remark(
        about="bash",
        when=lambda a: a.report.bash is None,
        says=lambda _: "no bash: stages run by sh -e",
    ),
    Remark(
        about="timeout",
        when=lambda a: a.report.timeout is None,
        says=lambda _: "no timeout: what hangs on the box is ended from here only",
    ),
    Remark(
        about="gpu",
        when=lambda a: not a.report.gpus,
        says=lambda a: (
            "no nvidia-smi, or it gave no answer: no GPU figures"
            if a.report.gpus is None
            else "nvidia-smi sees no GPU: no GPU figures"
        ),
    ),
    Remark(
        about="login shell",
        when=lambda a: a.report.noise_bytes > 0,
        says=lambda a: (
            f"the login shell prints {say.size(a.report.noise_bytes)} before we begin; it is ignored, "
            "but scp and rsync may stumble over it"
        ),
    ),
    Remark(
        when=lambda a: bool(_elsewhere(a)),
        says=lambda a: (
            f"what {', '.join(_elsewhere(a))} starts is not seen as the run's: "
            "whether it lives cannot be told, and stop does not end it"
        ),
    ),
    Remark(
        when=lambda a: bool(_buffered(a)),
        says=lambda a: (
            f"{', '.join(_buffered(a))} takes PYTHONUNBUFFERED away: what its Python prints waits in a "
            "buffer, and a busy run looks silent; write python -u, or call onbox.pulse.unbuffered()"
        ),
    ),
    Remark(
        about="clock",
        when=lambda a: abs(a.report.skew_s) > SKEW_MAX_S,
        says=lambda a: (
            f"the box's clock is {say.duration(abs(a.report.skew_s))} "
            f"{'ahead' if a.report.skew_s > 0 else 'behind'}; ages are taken by its own clock"
        ),
    ),
    Remark(
        about="state folder",
        when=lambda a: a.report.state_fs in _VOLATILE_FS,
        says=lambda a: f"the records lie on {a.report.state_fs}: a reboot loses them; set state_dir",
    ),
)
