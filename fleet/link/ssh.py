"""A link over SSH: fabric's connection or its bare client, our own socket, host-key judge and limits.

Only this module, `judge`, `channel` and `login` import the SSH libraries: import it for a visit only.
"""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self

import paramiko

from fleet import clock
from fleet.errors import LinkError
from fleet.link import causes, hostkeys
from fleet.link.address import Address
from fleet.link.algorithms import WEAK, nothing_in_common
from fleet.link.base import COMMAND, PROBE_MAX_BYTES, Reply, ended_there, packed
from fleet.link.causes import Scene, Stage
from fleet.link.channel import receive, send
from fleet.link.client import bare, by_fabric
from fleet.link.dial import Line, Watchdog, dial, places
from fleet.link.hostkeys import HostKey, Known
from fleet.link.judge import Judge, KeyRefusedError
from fleet.link.login import Login
from fleet.link.way import Carrier, Parting

_JOIN_S = 5.0
_AFTER_US_S = 3600.0  # the libraries' own limits: the watchdog is always first, so that it alone decides

# The libraries log tracebacks of every failed visit; what matters is in our error.
for _library in ("paramiko", "fabric", "invoke"):
    logging.getLogger(_library).addHandler(logging.NullHandler())
    logging.getLogger(_library).propagate = False
    logging.getLogger(_library).setLevel(logging.CRITICAL + 1)


class _Visit:
    """One way to one box, from the name to the login: what it has so far, and how to free all of it."""

    def __init__(self, address: Address, box_name: str, limit_s: float, judge: Judge) -> None:
        self.address = address
        self.box_name = box_name
        self.limit_s = limit_s
        self.began = clock.monotonic()
        self.stage = Stage.RESOLVE
        self.judge = judge
        self.login = Login(address, self.left_s, judge.check_asked)
        self.ran_out = False
        self.line: Line | None = None
        self.carrier: Carrier | None = None
        self.transport: paramiko.Transport | None = None
        self.client: paramiko.SSHClient | None = None

    def left_s(self) -> float:
        return self.began + self.limit_s - clock.monotonic()

    def dial(self) -> Line:
        if self.address.way is not None:
            self.stage = Stage.CONNECT
            self.carrier = Carrier(self.address.way)
            self.line = self.carrier.line
            self.stage = Stage.GREETING
            return self.line
        where = places(self.address.host, self.address.port, self.left_s())
        self.stage = Stage.CONNECT
        self.line = dial(where, self.left_s())
        self.stage = Stage.GREETING
        return self.line

    def under_watch(self, line: Line, act: Callable[[], Any]) -> None:
        """Do `act` under the watchdog. Raises TimeoutError when the limit ran out and `act` did not."""
        dog = Watchdog(self.left_s(), line)
        try:
            with dog:
                act()
        finally:
            self.ran_out = dog.bitten
        if dog.bitten:
            raise TimeoutError

    def new_transport(self, line: Line, first: tuple[str, ...], **options: Any) -> paramiko.Transport:
        """A transport on our terms: nothing weak, our limits only, the known key's algorithm first."""
        transport = paramiko.Transport(line, **options)
        self.transport = transport
        transport.banner_timeout = transport.auth_timeout = _AFTER_US_S
        transport.handshake_timeout = _AFTER_US_S
        accepted = transport.get_security_options()
        kinds = tuple(accepted.key_types)
        leading = tuple(kind for kind in first if kind in kinds)
        accepted.key_types = (*leading, *(kind for kind in kinds if kind not in leading))
        return transport

    def logged_in(self) -> paramiko.Transport:
        """The transport of this login. Raises EOFError when there is none."""
        if self.transport is None:
            raise EOFError
        return self.transport

    def failure(self, error: Exception) -> LinkError:
        took_s = clock.monotonic() - self.began
        if isinstance(error, KeyRefusedError):
            return causes.host_key_error(
                error.refuse,
                error.offered,
                address=self.address,
                box_name=self.box_name,
                at=clock.now(),
                took_s=took_s,
                skipped=self.judge.known.skipped,
            )
        stage = self._stage_now()
        # sshd may say goodbye in words of the protocol: then the line itself has not ended yet
        gone = stage == Stage.LOGIN and self.transport is not None and not self.transport.is_active()
        scene = Scene(
            stage=stage,
            took_s=took_s,
            limit_s=self.limit_s,
            ran_out=self.ran_out,
            hung_up=gone or (self.line is not None and self.line.ended),
            greeting=self.line.greeting if self.line is not None else b"",
            refused_keys=tuple(self.login.refused),
            unusable_keys=tuple(self.login.unusable),
            locked_keys=tuple(self.login.locked),
            parting=self._parting(),
            no_common=nothing_in_common(error),
        )
        return causes.link_error(error, scene, address=self.address, box_name=self.box_name, at=clock.now())

    def _stage_now(self) -> Stage:
        if self.line is None or not self.line.greeted:
            return self.stage
        exchanged = self.transport is not None and self.transport.initial_kex_done
        return Stage.LOGIN if exchanged else Stage.HANDSHAKE

    def _parting(self) -> Parting | None:
        hung_up = self.line is not None and self.line.ended and not self.ran_out
        return self.carrier.parting() if self.carrier is not None and hung_up else None

    def free(self) -> None:
        """End everything of this visit; safe at any time, and more than once."""
        if self.line is not None:
            self.line.shut()  # first: whoever waits on it wakes up
        self.login.close()
        if self.client is not None:
            self.client.close()  # not fabric's connection, which closes it only once the login had succeeded
        if self.transport is not None:
            self.transport.close()
            self.transport.packetizer.complete_handshake()  # ends its timer thread
            if self.transport.ident is not None:
                self.transport.join(_JOIN_S)
        if self.carrier is not None:
            self.carrier.end()
        if self.line is not None:
            self.line.close()


class SshLink:
    """An open link to one box; see fleet.link.open. Any failure of `run` leaves it closed."""

    def __init__(self, visit: _Visit, line: Line, transport: paramiko.Transport, host_key: HostKey) -> None:
        self.host_key = host_key
        self.strict_kex = bool(transport.agreed_on_strict_kex)  # type: ignore[attr-defined]  # not in its stubs
        self._visit = visit
        self._line = line
        self._transport = transport

    def run(
        self, script: bytes, request: bytes, *, limit_s: float, max_bytes: int = PROBE_MAX_BYTES
    ) -> Reply:
        """See Link.run: one channel of this connection, bounded in time and bytes on both sides."""
        began = clock.monotonic()
        dog = Watchdog(limit_s, self._line)
        try:
            with dog:
                reply, whole = self._talk(packed(script, request, limit_s), max_bytes)
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._fail(error, began, limit_s, ran_out=dog.bitten)
        ran_out = ended_there(reply, limit_s)
        if not whole:
            self._transport.join(0.2)  # it marks its channels before itself
            ran_out = ran_out or dog.bitten
        if ran_out or (not whole and (self._line.ended or not self._transport.is_active())):
            self._fail(EOFError(), began, limit_s, ran_out=ran_out)
        return reply

    def _talk(self, payload: bytes, max_bytes: int) -> tuple[Reply, bool]:
        """The reply, and whether the box itself said that no more comes: a status alone may come before."""
        began = clock.monotonic()
        channel = self._transport.open_session(timeout=_AFTER_US_S)
        sender = threading.Thread(target=send, args=(channel, payload), name="link sender", daemon=True)
        try:
            channel.exec_command(COMMAND)
            sender.start()
            out, err, over = receive(channel, max_bytes)
            status = -1 if over else channel.recv_exit_status()
            whole = over or (status != -1 and bool(channel.eof_received))
        finally:
            channel.close()
            if sender.ident is not None:
                sender.join(_JOIN_S)
        return Reply(status, out, err, clock.monotonic() - began, over=over), whole

    def _fail(self, error: Exception, began: float, limit_s: float, *, ran_out: bool) -> NoReturn:
        visit = self._visit
        scene = Scene(
            stage=Stage.COMMAND,
            took_s=clock.monotonic() - began,
            limit_s=limit_s,
            ran_out=ran_out,
            hung_up=self._line.ended or not self._transport.is_active(),
        )
        self.close()
        raise causes.link_error(
            error, scene, address=visit.address, box_name=visit.box_name, at=clock.now()
        ) from error

    def close(self) -> None:
        """End the link: its channel, thread and sockets. Safe to call twice."""
        self._visit.free()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    address: Address, *, box_name: str, pinned: HostKey | None, limit_s: float, probe: bool = False
) -> SshLink:
    """A link to the box, logged in, within `limit_s`.

    The host key must be `pinned`, or, with None, stand in the user's known_hosts files; nothing is ever
    written there. `probe` is as in fleet.link.open. Raises LinkError: HostKeyUnknown, HostKeyChanged,
    AuthRefused, LinkTimeout or itself, with the cause in `away`; then no thread, socket or file is left.
    """
    judge = Judge(pinned, hostkeys.known_in_user_files(address, only_revoked=pinned is not None))
    visit = _Visit(address, box_name, limit_s, judge)
    try:
        line = visit.dial()
        log_in = _login(visit, line, judge, probe=probe)
        visit.under_watch(line, log_in)
        transport = visit.logged_in()
        return SshLink(visit, line, transport, _host_key(transport))
    except Exception as error:
        failure = visit.failure(error)
        visit.free()
        raise failure from error
    except BaseException:
        visit.free()
        raise


def offered_key(
    address: Address, limit_s: float, *, box_name: str = "", first: HostKey | None = None
) -> HostKey:
    """The key that the box proves to have, without logging in: what `babysit trust` shows.

    It is asked for one of the type of `first`; where it has none of that type it shows another.

    Raises LinkError as `connect` does, never for the key itself.
    """
    visit = _Visit(address, box_name or address.lookup_name, limit_s, Judge(None, Known()))
    try:
        line = visit.dial()
        transport = visit.new_transport(line, Judge(first, Known()).types(), disabled_algorithms=WEAK)
        visit.under_watch(line, lambda: transport.start_client(timeout=_AFTER_US_S))
        return _host_key(transport)
    except Exception as error:
        raise visit.failure(error) from error
    finally:
        visit.free()


def _login(visit: _Visit, line: Line, judge: Judge, *, probe: bool) -> Callable[[], Any]:
    """What logs in, on our terms."""
    terms = {
        "sock": line,
        "timeout": _AFTER_US_S,
        "allow_agent": False,
        "look_for_keys": False,
        "auth_strategy": visit.login,
        "disabled_algorithms": WEAK,
        "transport_factory": lambda sock, **options: visit.new_transport(sock, judge.types(), **options),
    }
    visit.client, log_in = (bare if probe else by_fabric)(visit.address, terms)
    visit.client.set_missing_host_key_policy(judge)  # in place of theirs: fabric's accepts any key
    return log_in


def _host_key(transport: paramiko.Transport) -> HostKey:
    key = transport.get_remote_server_key()
    return HostKey(key.get_name(), key.get_base64())
