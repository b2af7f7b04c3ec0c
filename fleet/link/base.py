"""What every link to a box offers: send one constant script with its request, get one bounded reply."""

from types import TracebackType
from typing import Protocol, Self

from msgspec import Struct

PROBE_MAX_BYTES = 256 * 1024
STDERR_MAX_BYTES = 4096
REMOTE_GRACE_S = 1.0  # the box ends a command this long after we gave it up, where it is still running


class Reply(Struct, frozen=True):
    """What came back. `status` is the remote exit status, -1 when it never came: unknown, never a result.

    `stdout` is at most the number of bytes asked for; `over` says that there was more, which nobody
    waited for: its status is -1. `stderr` is its first 4 KiB.
    """

    status: int
    stdout: bytes
    stderr: bytes
    took_s: float
    over: bool = False


# What `timeout` ends with when it had to end the command, GNU's and busybox's; -1 where it had to kill.
_ENDED_THERE = frozenset({124, 137, 143, -1})


def ended_there(reply: Reply, limit_s: float) -> bool:
    """Whether the box itself ended the command, our limit being over: we were held up, and it was not."""
    return not reply.over and reply.status in _ENDED_THERE and reply.took_s >= limit_s


class Link(Protocol):
    """One open way to one box. Use it as a context manager: leaving it frees every thread and socket."""

    def run(
        self, script: bytes, request: bytes, *, limit_s: float, max_bytes: int = PROBE_MAX_BYTES
    ) -> Reply:
        """Run `script` (constant text) on the box with `request` on its standard input.

        Raises LinkTimeout when `limit_s` ran out, LinkError when the link ended in the answer; then, and
        after `close`, every further call raises LinkError too.
        """

    def close(self) -> None:
        """End the link. Safe to call twice."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


# The one command line that sshd ever runs for us (docs/box.md): the same for every visit, so that an account
# can be bound to it. What differs follows on standard input; nothing is ever interpolated into a command
# line, and no process list shows what we look for. It ends itself at the limit where the box has a `timeout`
# that knows -k. Source: busybox 1.30 has one that does not.
_BOOT = """IFS= read -r n && s=$(dd ibs=1 count="$n" 2>/dev/null) && eval "$s\""""
COMMAND = (
    "exec sh -c 'IFS= read -r t || exit 1; if timeout -k 9 9 true >/dev/null 2>&1; "
    f'then exec timeout -k 2 "$t" sh -c "$0"; else exec sh -c "$0"; fi\' \'{_BOOT}\''
)


def packed(script: bytes, request: bytes, limit_s: float) -> bytes:
    """Standard input for COMMAND: the box's own limit in seconds, length of the script, script, request."""
    remote_limit_s = max(1, round(limit_s + REMOTE_GRACE_S))
    return b"%d\n%d\n%b%b" % (remote_limit_s, len(script), script, request)
