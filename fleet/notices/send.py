"""The child that sends: `python -I -m fleet.notices.send`, one Parcel on stdin, one Receipt on stdout.

A child, because a receiver that drips keeps the library's threads alive after its own time limit:
only a process can be ended.
"""

import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import apprise
import msgspec
import requests

from fleet import clock
from fleet.notices.parcel import Parcel, Receipt
from fleet.text.redact import learn, redact
from fleet.text.untrusted import render_untrusted

_MAX_SAYS_CHARS = 300
# Schemes of plain webhooks, which take extra keys as `:key=value`: receivers tell repeats by `event`.
_TAKES_KEYS = frozenset({"json", "jsons", "form", "forms", "xml", "xmls"})
_BUSY, _GONE = frozenset({429, 503}), frozenset({404, 410})
MAX_WAIT_S = 3600.0
_MAX_DIGITS = 9
# Link-local, and where clouds answer to every process of a machine with its keys.
# Source: RFC 3927, RFC 4291, and the clouds' own pages on their metadata services.
_NO_RECEIVERS = tuple(map(ipaddress.ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128")))
_GRACE_S = 5.0  # the courier kills first; this ends us when the courier itself is gone


def main() -> None:
    """Send what stands on stdin, say how it went, end at once: no thread of the library is waited for."""
    parcel = msgspec.json.decode(sys.stdin.buffer.read(), type=Parcel)
    signal.setitimer(signal.ITIMER_REAL, parcel.limit_s + _GRACE_S)
    receipt = send(parcel)
    sys.stdout.buffer.write(msgspec.json.encode(receipt))
    sys.stdout.buffer.flush()
    os._exit(0)


def send(parcel: Parcel) -> Receipt:
    """One try, no repeat, no redirect. The URL is in nothing that comes back."""
    learn(parcel.url)
    heard = _Heard()
    # Its messages name URLs that it cannot read; until the URL is known to be good, nobody hears them.
    log = logging.getLogger("apprise")
    log.handlers, log.propagate = [logging.NullHandler()], False
    asset = apprise.AppriseAsset(http_redirects=False, storage_mode="memory", default_service_retry=0)
    service = apprise.Apprise.instantiate(with_event(parcel.url, parcel.event), asset=asset)
    sender = apprise.Apprise(asset=asset)
    if service is None or not sender.add(service):
        return Receipt(ok=False, status="bad-url", says="bad-url: no service that apprise knows takes it")
    if parcel.only_check:
        return Receipt(ok=True, status="fits", says="a service takes it")
    log.handlers = [heard]
    log.setLevel(logging.WARNING)
    with _answers() as answers, _no_metadata() as kept_from:
        result = sender.notify(
            body=parcel.body,
            title=parcel.title,
            notify_type=parcel.type,
            body_format=apprise.NotifyFormat.TEXT,
        )
    if result:
        return Receipt(ok=True, status="sent", says="sent")
    if kept_from:
        return Receipt(ok=False, status="failed", says="its address is link-local: clouds keep keys there")
    says = render_untrusted(redact(" ".join(heard.lines) or "the service said no"), _MAX_SAYS_CHARS)
    return _failed(says, *(answers[-1] if answers else (0, None)))


def _failed(says: str, status: int, retry_after: str | None) -> Receipt:
    """`says` with what the receiver's last answer, `status`, tells of when to come again."""
    if status not in _BUSY | _GONE:
        return Receipt(ok=False, status="failed", says=says)
    wait_s = wait_of(retry_after, clock.now()) if status in _BUSY else None
    return Receipt(
        ok=False, status="failed", says=f"HTTP {status}: {says}", wait_s=wait_s, gone=status in _GONE
    )


def wait_of(retry_after: str | None, now: float) -> float | None:
    """Seconds until the time that a Retry-After names, as a number or a date, an hour at the most.

    None where there is none or it is neither; 0 for a date that has passed.
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return MAX_WAIT_S if len(text) > _MAX_DIGITS else min(float(text), MAX_WAIT_S)
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return min(max(0.0, at - now), MAX_WAIT_S)


@contextmanager
def _answers() -> Iterator[list[tuple[int, str | None]]]:
    """Status and Retry-After of every HTTP answer in the block; the library keeps them to itself.

    Its services for HTTP all send through requests; what goes by another way (mail, MQTT) is not seen here.
    """
    seen: list[tuple[int, str | None]] = []
    as_it_is = requests.Session.send

    def send_and_note(session: Any, request: Any, **options: Any) -> Any:
        answer = as_it_is(session, request, **options)
        seen[:] = [(answer.status_code, answer.headers.get("Retry-After"))]
        return answer

    requests.Session.send = send_and_note  # type: ignore[assignment,method-assign]  # for one try, in this child
    try:
        yield seen
    finally:
        requests.Session.send = as_it_is  # type: ignore[method-assign]  # as above


@contextmanager
def _no_metadata() -> Iterator[list[str]]:
    """Addresses in the block that no notice goes to, whatever name or way of writing leads there.

    Asked where a name becomes the address that is then connected to; a proxy looks up its receivers itself.
    """
    refused: list[str] = []
    as_it_is = socket.getaddrinfo

    def look_up(*asked: Any, **options: Any) -> Any:
        found = as_it_is(*asked, **options)
        bad = [str(one[4][0]) for one in found if _is_metadata(str(one[4][0]))]
        if bad:
            refused.extend(bad)
            raise socket.gaierror(socket.EAI_FAIL, "link-local")
        return found

    socket.getaddrinfo = look_up
    try:
        yield refused
    finally:
        socket.getaddrinfo = as_it_is


def _is_metadata(address: str) -> bool:
    at = ipaddress.ip_address(address.partition("%")[0])
    at = getattr(at, "ipv4_mapped", None) or at
    return any(at.version == net.version and at in net for net in _NO_RECEIVERS)


def with_event(url: str, event: str) -> str:
    """`url` such that a plain webhook gets the event id as a key of its own; other services: as it was."""
    if url.partition("://")[0].lower() not in _TAKES_KEYS:
        return url
    return f"{url}{'&' if '?' in url else '?'}:event={quote(event, safe='')}"


class _Heard(logging.Handler):
    """Keeps what the library says, warnings and worse: its only words on why a try failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.lines.append(record.getMessage())


if __name__ == "__main__":
    main()
