"""The words in which the table's rows speak of a box and the way there. Pure; closed values and figures."""

import re

from fleet.model.probe import Cause
from fleet.text.by_hand import by_hand
from fleet.text.quote import sh
from fleet.text.say import ago
from patrol.case import Case

_CAUSES = {
    Cause.RESOLVE: "its name has no address",
    Cause.REFUSED: "nothing listens on the port",
    Cause.NO_ROUTE: "the network cannot reach it",
    Cause.TIMEOUT_CONNECT: "no answer to TCP",
    Cause.TIMEOUT_BANNER: "port open but no SSH",
    Cause.TIMEOUT_HANDSHAKE: "it went silent while greeting",
    Cause.TIMEOUT_COMMAND: "logged in, but no whole answer in its time",
    Cause.CUT: "the link was cut in the answer",
    Cause.THROTTLED: "sshd closes at the greeting (too many logins, or a gateway's limit)",
    Cause.PROTOCOL: "what answers on the port is no SSH",
    Cause.WEAK: "it speaks only weak algorithms, which are off here",
    Cause.UNREADABLE: "it answered, but not in a way that can be read",
    Cause.AUTH: "the box refused our key",
    Cause.HOSTKEY_UNKNOWN: "its host key is not known yet",
    Cause.HOSTKEY_CHANGED: "its host key changed",
    Cause.WAY: "its proxy command or jump host does not carry us",
    Cause.WAY_AUTH: "a jump host on the way refused our key",
    Cause.WAY_HOSTKEY: "the host key of a jump host on the way is unknown or changed",
    Cause.MOVED: "its key is shown at another address than the confirmed one",
}
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/=]{20,64}")
_ENDINGS = {1: "st", 2: "nd", 3: "rd"}


class LinkWords:
    """A case's box, and what became of asking it. An empty word leaves its piece out."""

    _case: Case

    @property
    def box(self) -> str:
        """The box's name, as a word of a shell."""
        return sh(self._case.run.box.name)

    @property
    def ssh(self) -> str:
        """What to type after `ssh` to reach the box."""
        return by_hand(self._case.run.box).removeprefix("ssh ")

    @property
    def cause(self) -> str:
        """Why the box did not answer."""
        return _CAUSES[self._case.away.cause] if self._case.away else ""

    @property
    def ticks(self) -> str:
        """How many looks in a row failed: `2nd tick`; empty for the first."""
        count = self._case.history.link_failures
        ending = "th" if count % 100 in {11, 12, 13} else _ENDINGS.get(count % 10, "th")
        return f"{count}{ending} tick" if count > 1 else ""

    @property
    def last_seen(self) -> str:
        """What was seen last, and when."""
        history = self._case.history
        if history.facts_at is None:
            return "never seen yet"
        return f"last seen {history.seen_as or 'there'} {ago(self._case.now - history.facts_at)}"

    @property
    def trust(self) -> str:
        """The command that accepts the offered key, with its fingerprint when it looks like one."""
        offered = (self._case.away.offered if self._case.away else None) or ""
        wanted = f" --fingerprint {offered}" if _FINGERPRINT.fullmatch(offered) else ""
        return f"babysit trust {self.box}{wanted}"

    @property
    def keys(self) -> str:
        """Known and offered fingerprints, where both are known."""
        away = self._case.away
        known, offered = (away.known or "", away.offered or "") if away else ("", "")
        if not (_FINGERPRINT.fullmatch(known) and _FINGERPRINT.fullmatch(offered)):
            return ""
        return f"known {known}, offered {offered}"
