"""The courier: takes what is due from the outbox to its receivers, outside of every tick.

Run as `python -I -m fleet.notices.courier FOLDER`. Its arguments name the ledger's folder only; targets are
references in the outbox, and their URLs pass from here to the sending child by standard input.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
from msgspec import Struct

from fleet import clock
from fleet.errors import BabysitError, Busy, DeliveryError
from fleet.ledger.ledger import Ledger
from fleet.ledger.lock import kernel_lock
from fleet.ledger.outbox import Told
from fleet.ledger.rows import OutboxRow
from fleet.model.verdict import Severity
from fleet.notices.parcel import Parcel, Receipt
from fleet.notices.secret import resolve as resolve_secret
from fleet.text.redact import redact

LIMIT_S = 20.0  # for one try: apprise itself waits 4 s to connect and 4 s a read
STAYS_S = 240.0  # how long a courier goes on trying before it leaves the rest to the next tick's
_LEASE_EXTRA_S = 10.0  # past the child's own end, so that two children never carry one row
_LOOK_AGAIN_S = 0.5
_HANDOVER_S = 1.0

_TYPES = {Severity.PAGE: "failure", Severity.NOTE: "warning", Severity.QUIET: "info"}

# What a sending child may know of our environment: how to reach the network, nothing else.
_PASSED_ON = (
    *("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)


class Delivered(Struct, frozen=True):
    """How many tries of one courier ended which way. `dead` rows were given up and are not in `failed`."""

    sent: int = 0
    failed: int = 0
    dead: int = 0


def start_detached(folder: Path, *, limit_s: float = LIMIT_S, stays_s: float = STAYS_S) -> int:
    """Start a courier for the ledger in `folder` that outlives us; returns its pid, within milliseconds.

    Where one is at it already, the new one leaves by itself.
    Raises DeliveryError when this machine can start none.
    """
    # sh puts it into the background and ends: the courier is nobody's child here, so no tick has to reap it.
    words = [sys.executable, "-I", "-m", "fleet.notices.courier", str(folder), str(limit_s), str(stays_s)]
    try:
        started = subprocess.run(
            ["/bin/sh", "-c", '"$@" >/dev/null 2>&1 & echo $!', "sh", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            check=True,
        )
        return int(started.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise DeliveryError(f"no courier could be started: {error}", where=str(folder)) from None


def deliver_due(
    folder: Path,
    resolve: Callable[[str], str] = resolve_secret,
    *,
    limit_s: float = LIMIT_S,
    stays_s: float = 0.0,
    now: Callable[[], float] = clock.now,
    jitter: Random | None = None,
) -> Delivered:
    """Deliver what is due, and what falls due within `stays_s` seconds; each try ends within `limit_s`.

    No try begins after the longer of the two: a great many hanging rows are left to the next courier.
    Raises Busy when another courier is at it, LedgerError when the ledger cannot be used.
    """
    began = clock.monotonic()
    jitter = jitter or Random()  # noqa: S311 - spreads retries, hides nothing
    counts = {"sent": 0, "due": 0, "dead": 0}
    lock = kernel_lock(folder / "courier.lock", what="another courier", at=now(), wait_s=_HANDOVER_S)
    with lock, Ledger.open(folder, write=True) as ledger:
        while clock.monotonic() - began <= max(stays_s, limit_s):
            row = ledger.outbox.claim_due(now(), limit_s + _LEASE_EXTRA_S)
            if row is not None:
                receipt = _try(row, resolve, limit_s, late=ledger.outbox.overtaken(row))
                if receipt.ok:
                    ledger.outbox.mark_sent(row, now())
                    counts["sent"] += 1
                else:
                    told = Told(receipt.wait_s, receipt.gone)
                    counts[ledger.outbox.mark_failed(row, receipt.says, now(), jitter, told)] += 1
                continue
            due_at = ledger.outbox.next_due(now())
            if due_at is None or clock.monotonic() - began + due_at - now() > stays_s:
                break
            # Looking again soon rather than sleeping through: a tick may put something newer into the outbox.
            time.sleep(min(_LOOK_AGAIN_S, max(0.0, due_at - now())))
    return Delivered(counts["sent"], counts["due"], counts["dead"])


def _try(row: OutboxRow, resolve: Callable[[str], str], limit_s: float, *, late: bool) -> Receipt:
    try:
        url = resolve(row.reference)
    except DeliveryError as error:
        return Receipt(ok=False, status="failed", says=redact(error.what))
    title, body = row.event.title, row.event.body
    if late:  # what is read last is taken for how it is
        title, body = f"late: {title}", f"{body}\nlate: newer news of this run was sent before it"
    if row.tries > 1:
        body += f"\ntry {row.tries}: if you have seen this event id before, it is the same news"
    return carry(
        Parcel(
            url=url,
            title=redact(title),
            body=redact(body),
            type="success" if row.event.kind == "resolved" else _TYPES[row.event.severity],
            event=row.event.event_id,
            limit_s=limit_s,
        )
    )


def carry(parcel: Parcel) -> Receipt:
    """How one try went, by a child that is killed at the parcel's limit. Never raises for a receiver."""
    try:
        child = _sender()
    except OSError as error:
        return Receipt(ok=False, status="failed", says=f"no sender could be started: {error.strerror}")
    try:
        answer, _ = child.communicate(msgspec.json.encode(parcel), timeout=parcel.limit_s)
    except subprocess.TimeoutExpired:
        says = f"the receiver took longer than {parcel.limit_s:g} s: ended"
        return Receipt(ok=False, status="failed", says=says)
    except OSError as error:
        return Receipt(ok=False, status="failed", says=f"the sender could not be told: {error.strerror}")
    finally:
        # The whole group, however we leave: nothing of a try lives on after it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    try:
        return msgspec.json.decode(answer, type=Receipt)
    except msgspec.MsgspecError:
        return Receipt(
            ok=False, status="failed", says=f"the sender ended without a word (exit {child.returncode})"
        )


def _sender() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "fleet.notices.send"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # NETRC: a login of the user's for the same host is none of a receiver's business.
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"NETRC": os.devnull},
    )


def main() -> None:
    """`FOLDER LIMIT_S STAYS_S`: deliver and leave; another courier at it is no failure."""
    folder, limit_s, stays_s = sys.argv[1:]
    try:
        deliver_due(Path(folder), limit_s=float(limit_s), stays_s=float(stays_s))
    except Busy:
        return
    except BabysitError as error:
        print(redact(f"babysit courier: {error.what}"), file=sys.stderr)  # noqa: T201 - a program of its own
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
