"""Whether anything was started since somebody looked."""

from pathlib import Path

from onbox.meter.files import Files


class Newest:
    """The number that the kernel gave last to a process or thread: while it stands, nothing was started."""

    def __init__(self, proc: str, root: int) -> None:
        self._path = proc + "/loadavg"
        self._files = Files(1)
        self._last = self._read()
        # Some containers have a file of their own there, which moves late or never.
        own = Path(proc).stat().st_dev
        try:
            self._trusted = Path(self._path).stat().st_dev == own and int(self._last or 0) >= root
        except (OSError, ValueError):
            self._trusted = False

    def moved(self) -> bool:
        """Whether something may have been started since the last call."""
        if not self._trusted:
            return True
        before, self._last = self._last, self._read()
        return before != self._last or not self._last

    def close(self) -> None:
        """Nothing comes back."""
        self._files.close()

    def _read(self) -> bytes:
        try:
            return self._files.read(self._path).rpartition(b" ")[2].strip()
        except OSError:
            return b""
