"""What went wrong with steering: counted, never raised."""

from typing import Optional

_SAID = 200


class Faults:
    """How many there were, and the newest in words."""

    __slots__ = ("count", "newest")

    def __init__(self) -> None:
        self.count = 0
        self.newest: Optional[str] = None

    def note(self, what: object) -> None:
        """Nothing comes back: one more, an exception or a sentence."""
        self.count += 1
        try:
            self.newest = (
                "%s: %s" % (type(what).__name__, what) if isinstance(what, BaseException) else str(what)
            )[:_SAID]
        except Exception:  # noqa: BLE001 - an exception whose text raises
            self.newest = type(what).__name__
