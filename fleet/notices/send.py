"""The child that sends: `python -I -m fleet.notices.send`, one Parcel on stdin, one Receipt on stdout.

A child, because a receiver that drips keeps the library's threads alive after its own time limit:
only a process can be ended.
"""

import logging
import os
import signal
import sys
from urllib.parse import quote

import apprise
import msgspec

from fleet.notices.parcel import Parcel, Receipt
from fleet.text.redact import learn, redact
from fleet.text.untrusted import render_untrusted

_MAX_SAYS_CHARS = 300
# Schemes of plain webhooks, which take extra keys as `:key=value`: receivers tell repeats by `event`.
_TAKES_KEYS = frozenset({"json", "jsons", "form", "forms", "xml", "xmls"})
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
    result = sender.notify(
        body=parcel.body, title=parcel.title, notify_type=parcel.type, body_format=apprise.NotifyFormat.TEXT
    )
    if result:
        return Receipt(ok=True, status="sent", says="sent")
    says = render_untrusted(redact(" ".join(heard.lines) or "the service said no"), _MAX_SAYS_CHARS)
    return Receipt(ok=False, status="failed", says=says)


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
