"""What a command prints, read as it comes: a pipe that nobody reads would stop it."""

import locale
import os
import select
import threading
from typing import IO, Any, BinaryIO, NamedTuple, Optional, Union

KEPT_BYTES = 64 << 10
_PIECE = 64 << 10
_PIPES = 32  # pieces: more than the largest pipe holds


class Text(NamedTuple):
    """How bytes become what the caller reads, as `subprocess.run` has it; by default they stay bytes."""

    text: bool = False
    encoding: Optional[str] = None
    errors: Optional[str] = None

    @property
    def wanted(self) -> bool:
        """Whether the caller asked for text."""
        return self.text or self.encoding is not None or self.errors is not None

    def read(self, content: bytes, *, whole: bool) -> Union[bytes, str]:
        """`content` as the caller wants it; what was cut at its beginning may begin within a character."""
        if not self.wanted:
            return content
        errors = self.errors or ("strict" if whole else "replace")
        text = content.decode(self._encoding(), errors)
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def written(self, content: Any) -> bytes:
        """What the command is to read."""
        if isinstance(content, str):
            return content.encode(self._encoding(), self.errors or "strict")
        return bytes(content)

    def _encoding(self) -> str:
        return self.encoding or locale.getpreferredencoding(False)


class Ring:
    """Reads one pipe to its end in a thread of its own and keeps the last `limit` bytes; None: all of them.

    The thread goes on after the command has ended, for what the command left running must not die of a broken
    pipe; it ends with the last writer, or with the program.
    """

    def __init__(self, pipe: BinaryIO, limit: Optional[int]) -> None:
        self._pipe, self._limit = pipe, limit
        self._lock = threading.Lock()
        self._kept = bytearray()
        self._lost = False
        os.set_blocking(pipe.fileno(), False)
        threading.Thread(target=self._run, name="onbox-drain", daemon=True).start()

    def kept(self, text: Text) -> Union[bytes, str]:
        """What was printed until now, or the end of it: also what still lies in the pipe."""
        with self._lock:
            for _ in range(_PIPES):  # something left running may print for ever
                if not self._read():
                    break
            content, lost = bytes(self._kept), self._lost
        if self._limit is not None and len(content) > self._limit:
            content, lost = content[-self._limit :], True
        return text.read(content, whole=not lost)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        more = True
        while more:
            poll.poll()
            with self._lock:
                more = self._read() is not None
                if not more:
                    self._pipe.close()  # by this thread alone: another could close what it polls

    def _read(self) -> Optional[int]:
        """How many bytes were there, 0 for none now, None at the end; called under the lock."""
        if self._pipe.closed:
            return None
        try:
            piece = os.read(self._pipe.fileno(), _PIECE)
        except BlockingIOError:
            return 0
        except OSError:
            return None
        self._kept += piece
        if self._limit is not None and len(self._kept) > 2 * self._limit:
            del self._kept[: -self._limit]
            self._lost = True
        return len(piece) or None


def feed(pipe: IO[bytes], content: bytes) -> None:
    """Nothing comes back: a thread writes `content` to the command, and then the end of it."""

    def run() -> None:
        left = memoryview(content)
        try:
            with pipe:
                while left:
                    left = left[pipe.write(left) :]
        except OSError:
            return  # it does not want to read it all, as it may

    threading.Thread(target=run, name="onbox-feed", daemon=True).start()
