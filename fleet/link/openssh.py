"""A link over the system's ssh program: Kerberos, hardware keys, host certificates, all of ssh_config.

One ssh process a run, nothing shared between them. The first starts with the link, as far as the login; it
waits for its script in the constant command. No SSH library is loaded here.
"""

import os
import select
import shutil
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from fleet import clock
from fleet.errors import LinkError, UsageError
from fleet.link.address import Address
from fleet.link.base import PROBE_MAX_BYTES, Reply, ended_there, packed
from fleet.link.causes import Stage
from fleet.link.child import Child
from fleet.link.hostkeys import HostKey
from fleet.link.route import Route
from fleet.link.sshlog import SshLog
from fleet.model.spec import BoxSpec

_CHUNK_BYTES = 64 * 1024
_LOOK_MS = 100  # how often it is asked whether ssh is gone, while others hold its log open
_CUT = b" closed by remote host."
_POLL_S = 0.005


class _Trip:
    """One ssh process from its start to its end, with its log and its private folder."""

    def __init__(self, route: Route, limit_s: float) -> None:
        self.log = SshLog()
        self._route = route
        self._began = clock.monotonic()
        self._limit_s = limit_s
        self._folder: Path | None = Path(tempfile.mkdtemp(prefix="babysit-"))
        self._ear = -1
        self._child: Child | None = None
        # ssh gives one address up before the limit, so that a second one is tried: of the usual 20 s a slow
        # sshd gets 15.
        self._connect_limit_s = max(1, round(limit_s * 0.75))
        try:
            os.mkfifo(self._folder / "log", 0o600)
            self._ear = os.open(self._folder / "log", os.O_RDONLY | os.O_NONBLOCK)
            if route.pinned is not None:
                (self._folder / "known_hosts").write_bytes(route.known_hosts())
            self._child = Child(route.words(self._folder, self._connect_limit_s), env=_environment())
        except BaseException:
            self.end()
            raise

    # -- the log, as a stream of the child

    def fileno(self) -> int:
        """The log's descriptor."""
        return self._ear

    def serve(self) -> bool:
        """Read what ssh has said since; False at the log's end."""
        try:
            while got := os.read(self._ear, _CHUNK_BYTES):
                self.log.feed(got)
        except BlockingIOError:
            return True
        return False

    # -- its life

    @property
    def took_s(self) -> float:
        """Seconds since it began."""
        return clock.monotonic() - self._began

    def log_in(self) -> None:
        """Wait until ssh has logged in. Raises LinkError."""
        deadline = self._began + self._limit_s
        child = self._running()
        heard = select.poll()
        heard.register(self._ear, select.POLLIN)
        while True:
            gone = child.exited  # asked before the last emptying
            told = self.serve()
            if self.log.stage == Stage.COMMAND:
                break
            if gone:
                raise self._failure(ran_out=False)
            if clock.monotonic() >= deadline:
                raise self._failure(ran_out=True)
            if told:
                heard.poll(max(1, min(_LOOK_MS, round(1000 * (deadline - clock.monotonic())))))
            else:  # it has not opened its log yet, or closed it and is leaving
                threading.Event().wait(_POLL_S)
        self._drop_folder()

    def run(self, payload: bytes, *, began: float, limit_s: float, max_bytes: int) -> Reply:
        """What the command answered, `limit_s` after `began` at most; the process has ended then.

        Raises LinkError.
        """
        self._began, self._limit_s = began, limit_s
        child = self._running()
        try:
            said = child.talk(payload, deadline=began + limit_s, max_bytes=max_bytes, aside=self)
        except TimeoutError:
            raise self._failure(ran_out=True) from None
        child.kill()  # what is left of it: a command on the way, or an answer that nobody waits for
        status = child.end()
        self.serve()
        # 255 is what ssh itself fails with, and what a command may end with: the log knows which of them it
        # was. Any other status is the command's, but for a line cut after it: ssh then says so, and keeps it.
        cut = not self.log.eof_came and (self.log.hung_up or _CUT in said.err)
        ended = self.log.status_came or self.log.signal_came or 0 <= status < 255
        if not said.over and (cut or not ended):
            raise self._failure(ran_out=False, words=said.err)
        status = -1 if said.over or self.log.signal_came or status < 0 else status
        reply = Reply(status, said.out, said.err, self.took_s, over=said.over)
        if ended_there(reply, limit_s):
            raise self._failure(ran_out=True, words=said.err)
        return reply

    def _failure(self, *, ran_out: bool, words: bytes | None = None) -> LinkError | UsageError:
        words = self._running().words() if words is None else words
        waited = isinstance(self.log.error, TimeoutError) and not ran_out  # by ssh, for one address
        limit_s = self._connect_limit_s if waited else self._limit_s
        took_s = clock.monotonic() - self._began
        self.end()
        return self._route.failure(self.log, took_s=took_s, limit_s=limit_s, ran_out=ran_out, words=words)

    def kill(self) -> None:
        """End the process now, from whatever thread: who waits for it sees a link that was cut."""
        if self._child is not None:
            self._child.kill()

    def end(self) -> None:
        """End the process with all it started, and free everything. Safe to call twice."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.end()
        if self._ear >= 0:
            os.close(self._ear)
            self._ear = -1
        self._drop_folder()

    def _running(self) -> Child:
        if self._child is None:
            raise ValueError("this ssh process was ended")
        return self._child

    def _drop_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


class OpenSshLink:
    """An open link to one box. `host_key` is the key it proved to have, None where a certificate vouched.

    Any failure of `run` leaves the link closed. Every run after the first is a visit of its own, to the same
    machine: a login within the run's limit.
    """

    def __init__(self, route: Route, first: _Trip, host_key: HostKey | None) -> None:
        self.host_key = host_key
        self.strict_kex = first.log.strict_kex
        self._route = route
        self._trip: _Trip | None = first
        self._busy = False
        self._closed = False

    def run(
        self, script: bytes, request: bytes, *, limit_s: float, max_bytes: int = PROBE_MAX_BYTES
    ) -> Reply:
        """See Link.run: one ssh process, bounded in time and bytes on both sides."""
        began = clock.monotonic()
        if self._closed:
            raise self._route.closed()
        trip = self._trip
        self._busy = True
        try:
            if trip is None:
                trip = self._trip = _Trip(self._route, limit_s)
                trip.log_in()
            payload = packed(script, request, limit_s)
            return trip.run(payload, began=began, limit_s=limit_s, max_bytes=max_bytes)
        except BaseException:
            self._closed = True
            raise
        finally:
            self._busy = False
            self._trip = None
            if trip is not None:
                trip.end()

    def close(self) -> None:
        """End the link and its process. Safe to call twice, and while another thread is in `run`."""
        self._closed = True
        trip = self._trip
        if trip is not None and self._busy:
            trip.kill()
        elif trip is not None:
            self._trip = None
            trip.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(box: BoxSpec, address: Address, *, pinned: HostKey | None, limit_s: float) -> OpenSshLink:
    """A link to the box, logged in, within `limit_s`; see fleet.link.open.

    Raises LinkError as the other link does, UsageError where there is no ssh program or it will not start.
    """
    route = Route(box, address, pinned)
    trip = _Trip(route, limit_s)
    try:
        trip.log_in()
        accepted = route.accepted(trip.log, trip.took_s)
        return OpenSshLink(Route(box, address, accepted) if accepted else route, trip, accepted)
    except BaseException:
        trip.end()
        raise


def _environment() -> dict[str, str]:
    """Ours, without any way to ask a person, and with messages in the words we know."""
    unwanted = ("SSH_ASKPASS", "DISPLAY", "WAYLAND_DISPLAY", "LC_ALL", "LANGUAGE")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    # Not LC_ALL=C: ssh_config often sends LC_* on, and a run started over this link would inherit it.
    return {**kept, "SSH_ASKPASS_REQUIRE": "never", "LC_MESSAGES": "C"}
