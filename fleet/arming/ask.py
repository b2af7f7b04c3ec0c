"""What a script on the box answered: its sections, or one error that says why it could not do its work."""

import re
import secrets
from collections.abc import Iterable

from msgspec import Struct

from fleet.errors import BabysitError, BoxRefused, Busy, NotFound, ProbeUnreadable, UsageError
from fleet.link.base import PROBE_MAX_BYTES, Link, Reply
from fleet.model.spec import NAME_PATTERN
from fleet.text import frame
from fleet.text.templates import box_script
from fleet.text.untrusted import decode, render_untrusted

# The status of a section `error` is the exit code of what it means; one that is not here is unreadable.
_MEANS: dict[int, type[BabysitError]] = {
    BoxRefused.exit_code: BoxRefused,
    NotFound.exit_code: NotFound,
    Busy.exit_code: Busy,
    ProbeUnreadable.exit_code: ProbeUnreadable,
}
_SAID_CHARS = 200


class Answer(Struct, frozen=True):
    """The sections of one answer, in the order they were sent.

    `noise_bytes` came before the frame (a login shell that prints). `took_s` is the whole visit. `complaint`
    is what came on standard error, at most 4 KiB of the box's text.
    """

    sections: tuple[frame.Section, ...]
    noise_bytes: int
    took_s: float
    where: str
    complaint: bytes = b""

    def get(self, name: str) -> frame.Section | None:
        """The first section called `name`; None when it was not sent."""
        return next((section for section in self.sections if section.name == name), None)

    def must(self, name: str) -> frame.Section:
        """The first section called `name`. Raises ProbeUnreadable when it was not sent."""
        section = self.get(name)
        if section is None:
            raise ProbeUnreadable(f"the answer has no section {name!r}", where=self.where)
        return section

    def word(self, name: str) -> str | None:
        """The one line of section `name`; None when it was not sent, is empty or was read with an error."""
        section = self.get(name)
        if section is None or section.status != 0:
            return None
        return section.text.strip() or None


def ask(
    link: Link,
    fragments: tuple[str, ...],
    pairs: Iterable[tuple[str, str]],
    *,
    where: str,
    limit_s: float,
    payload: bytes = b"",
    max_bytes: int = PROBE_MAX_BYTES,
) -> Answer:
    """What the script made of `fragments` (templates/box) answered to the request `pairs` and `payload`.

    `where` names the box or the run in errors. Raises BoxRefused, NotFound, Busy or ProbeUnreadable as
    the script's section `error` says (its first line is what, the rest the hint), ProbeUnreadable for an
    answer without a whole frame, LinkError when the box could not be asked, UsageError for a value that
    no request line can hold.
    """
    token = secrets.token_hex(16)
    try:
        lines = frame.request(token, pairs)
    except ValueError as error:
        raise UsageError(str(error), where=where) from None
    reply = link.run(box_script(*fragments), lines + payload, limit_s=limit_s, max_bytes=max_bytes)
    try:
        sections = frame.sections(reply.stdout, token, where=where)
    except ProbeUnreadable as error:
        raise ProbeUnreadable(error.what, where=where, hint=_instead(reply, max_bytes)) from None
    noise_bytes = reply.stdout.find(f"babysit-frame 1 {token} ".encode())
    answer = Answer(sections, noise_bytes, reply.took_s, where, reply.stderr)
    refused = answer.get("error")
    if refused is not None:
        what, _, hint = refused.text.partition("\n")
        error_type = _MEANS.get(refused.status, ProbeUnreadable)
        said = error_type(
            render_untrusted(what), where=where, hint=render_untrusted(hint.replace("\n", "; "))
        )
        said.quotes_box = True
        raise said
    return answer


def checked_name(value: str, *, what: str) -> str:
    """`value` when it can be a run's name or id: letters, digits, `._-`, at most 64; never `..` or `-x`.

    Raises UsageError naming `what`.
    """
    if not re.fullmatch(NAME_PATTERN, value):
        raise UsageError(
            f"not a {what}: {render_untrusted(value, 80)!r}",
            hint="letters, digits, dot, underscore and dash; it starts with a letter or digit; 64 at most",
        )
    return value


def _instead(reply: Reply, max_bytes: int) -> str:
    if reply.over:
        return f"the answer is longer than {max_bytes} bytes"
    said = render_untrusted(" ".join(decode(reply.stderr or reply.stdout).split()), _SAID_CHARS)
    status = "no exit status came" if reply.status < 0 else f"exit status {reply.status}"
    if said:
        return f"{status}, it said: {said}"
    # Our command was never run, or got nothing to read.
    early = "; does ~/.bashrc there exit, or read what is sent?" if reply.status in (0, 1) else ""
    return f"{status}, it said nothing{early}"
