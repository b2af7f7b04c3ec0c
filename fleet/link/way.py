"""A way to a box that is no plain TCP: a command, run as our own child, that carries the line's bytes."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import threading

from msgspec import Struct

from fleet import clock
from fleet.link.base import STDERR_MAX_BYTES
from fleet.link.dial import Line
from fleet.model.probe import Cause
from fleet.text.untrusted import decode, render_untrusted

_TERM_GRACE_S = 0.5  # between asking the child to end and ending it
_LEAVE_S = 2.0  # a child that closed its output has ended this long after
_POLL_S = 0.01
_NOT_FOUND, _NOT_RUNNABLE = 127, 126  # Source: POSIX, exit status of a shell's command
_WORDS_SHOWN = 200


class Way(Struct, frozen=True):
    """`command` is a line for sh that carries bytes to the box and back; `through` names it for a person.

    `option` is the line of an ssh_config that means the same on another machine.
    """

    command: str
    through: str
    option: str = ""


class Parting(Struct, frozen=True):
    """How the child left: `status` as Popen has it (None: we had to end it), `stderr` its last words."""

    status: int | None
    stderr: bytes = b""

    @property
    def last_words(self) -> str:
        """The last line it said, harmless; empty when it said nothing."""
        lines = [line.strip() for line in re.split(rb"[\r\n]+", self.stderr) if line.strip()]
        return render_untrusted(decode(lines[-1]), _WORDS_SHOWN) if lines else ""


# What OpenSSH's client says, in its own words, when a jump fails: the cause, and our sentence about it.
_JUMP_SAYS: tuple[tuple[str, Cause, str], ...] = (
    (
        "IDENTIFICATION HAS CHANGED|REVOKED HOST KEY",
        Cause.WAY_HOSTKEY,
        "{through} shows another host key than the one your known_hosts has; nothing was sent",
    ),
    (
        "host key is known for|Host key verification failed",
        Cause.WAY_HOSTKEY,
        "nobody has confirmed the host key of {through} yet; nothing was sent",
    ),
    (
        r"Permission denied \(|Too many authentication failures|No supported authentication",
        Cause.WAY_AUTH,
        "{through} did not let us in",
    ),
    (
        r"open failed: [\s\S]*UNKNOWN port",
        Cause.NO_ROUTE,
        "one of {through} cannot be reached from the one before it",
    ),
    (
        "open failed: .*prohibited",
        Cause.WAY,
        "{through} lets us in, but forbids going on to {host} port {port}",
    ),
    (
        "open failed: .*refused",
        Cause.REFUSED,
        "nothing listens on {host} port {port}, as {through} sees it: connection refused",
    ),
    (
        "open failed: .*timed out",
        Cause.TIMEOUT_CONNECT,
        "no answer from {host} port {port}, as {through} sees it",
    ),
    (
        "open failed: .*(not known|o address|resolution|resolve)",
        Cause.RESOLVE,
        "the name {host} has no address, as {through} sees it",
    ),
    ("open failed: ", Cause.NO_ROUTE, "{host} port {port} cannot be reached from {through}"),
    (
        "timed out (during|while waiting)",
        Cause.TIMEOUT_BANNER,
        "{through} is open, but sent no SSH greeting in time",
    ),
    ("timed out", Cause.TIMEOUT_CONNECT, "no answer from {through} in time"),
    ("Could not resolve hostname", Cause.RESOLVE, "the name of {through} has no address"),
    ("port .*: Connection refused", Cause.REFUSED, "nothing listens at {through}: connection refused"),
    ("port .*: (No route to host|Network is unreachable)", Cause.NO_ROUTE, "{through} cannot be reached"),
    (
        "kex_exchange_identification: ",
        Cause.THROTTLED,
        "{through} hung up at the greeting: too many connections, or a gateway's limit",
    ),
)


def blame(parting: Parting) -> tuple[Cause, str] | None:
    """Why no greeting came, where the child is to blame: the cause, and a sentence with places to fill.

    None where it ended well: then the box itself hung up. Pure.
    """
    if parting.status == 0:
        return None
    if parting.status == _NOT_FOUND:
        return Cause.WAY, "a program of {through} is not there{words}"
    if parting.status == _NOT_RUNNABLE:
        return Cause.WAY, "a program of {through} cannot be run{words}"
    told = decode(parting.stderr)
    for pattern, cause, says in _JUMP_SAYS:
        if re.search(pattern, told):
            return cause, says
    if parting.status is None:
        return Cause.WAY, "{through} closed the line before {host} had greeted{words}"
    how = f"with status {parting.status}" if parting.status > 0 else f"by signal {-parting.status}"
    return Cause.WAY, f"{{through}} ended {how} before {{host}} had greeted{{words}}"


class Carrier:
    """The child on the way. `line` is our end of it. `end` leaves no process, thread or descriptor.

    It runs in a session of its own: it has no terminal to ask anything on, and is ended with all it started.
    Raises OSError when it cannot be started.
    """

    def __init__(self, way: Way) -> None:
        self._stderr = b""
        self._ended = False
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            self.line = Line(ours.family, ours.detach())
            undo.callback(self.line.close)
            with theirs:
                self._bell, self._rope = socket.socketpair()
                undo.callback(self._rope.close)
                undo.callback(self._bell.close)
                self._child = subprocess.Popen(
                    [
                        "/bin/sh",
                        "-c",
                        f"exec {way.command}",
                    ],  # as ssh does, but by sh always: cron has no other
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    env=_environment(),
                    start_new_session=True,
                )
            undo.callback(self._child.wait)
            undo.callback(self._signal, signal.SIGKILL)
            self._listener = threading.Thread(target=self._listen, name="way stderr", daemon=True)
            self._listener.start()
            undo.pop_all()

    def parting(self) -> Parting:
        """How it left, once the line is at its end; waits a little for a child that is just leaving."""
        left = self._left_within(_LEAVE_S)
        self.end()
        return Parting(self._child.returncode if left else None, self._stderr)

    def end(self) -> None:
        """End the child with its whole group, and reap it. Takes a second at most. Safe to call twice."""
        if self._ended:
            return
        self._ended = True
        self.line.shut()
        self._signal(signal.SIGTERM)
        self._left_within(_TERM_GRACE_S)
        self._signal(signal.SIGKILL)
        self._child.wait()
        self._listener.join(_POLL_S)  # all that was said has been read, unless somebody left the group
        self._rope.close()
        self._listener.join()
        self._bell.close()
        if self._child.stderr is not None:
            self._child.stderr.close()

    def _signal(self, number: int) -> None:
        # The child is not reaped yet, so that its group is nobody else's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)

    def _left_within(self, limit_s: float) -> bool:
        """Whether the child itself has ended; it is not reaped by this."""
        if self._child.returncode is not None:
            return True
        if not hasattr(os, "waitid"):  # macOS before Python 3.13: the end of its words is the nearest sign
            self._listener.join(limit_s)
            return not self._listener.is_alive()
        deadline = clock.monotonic() + limit_s
        while os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if clock.monotonic() > deadline:
                return False
            threading.Event().wait(_POLL_S)
        return True

    def _listen(self) -> None:
        """Keep the end of what the child says; it must never wait for us to read."""
        pipe = self._child.stderr.fileno() if self._child.stderr is not None else -1
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        waiting.register(self._bell, select.POLLIN)
        while True:
            ready = {number for number, _ in waiting.poll()}
            if pipe not in ready:
                return
            got = os.read(pipe, STDERR_MAX_BYTES)
            if not got:
                return
            self._stderr = (self._stderr + got)[-STDERR_MAX_BYTES:]
            if self._ended and self._bell.fileno() in ready:
                return


def _environment() -> dict[str, str]:
    """Ours, without any way to ask a person, and with messages in the words we know."""
    unwanted = ("SSH_ASKPASS", "DISPLAY", "WAYLAND_DISPLAY", "LC_MESSAGES", "LANGUAGE")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
