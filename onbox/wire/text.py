"""JSON as it lies in the folder: bounded to read, ASCII to write."""

import json
import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from onbox.wire.folder import read_plain

_TORN_FOR_S = 0.05  # 0.1.x truncates, then writes: an empty or cut file is whole again within milliseconds
_AGAIN_S = 0.002


def dumped(document: Any, *, indent: Optional[int] = None) -> bytes:
    """`document` as ASCII JSON, a NaN as Python writes it. Raises ValueError, TypeError."""
    return json.dumps(document, indent=indent).encode("ascii")


def worded(value: Any) -> Any:
    """`value` with the text `NaN`, `Infinity`, `-Infinity` for numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else json.dumps(value)
    if isinstance(value, dict):
        return {key: worded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [worded(one) for one in value]
    return value


def loaded(content: bytes) -> Dict[str, Any]:
    """The object that `content` holds. Raises ValueError for anything else."""
    try:
        document = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one way to say that it cannot be read
    return document


def patiently(path: Path, cap: int, sleep: Callable[[float], None] = time.sleep) -> Dict[str, Any]:
    """The object in the file at `path`, read again for 50 ms while it is torn. Raises ValueError, OSError."""
    deadline, late = time.monotonic() + _TORN_FOR_S, False
    while True:
        try:
            return loaded(read_plain(path, cap))
        except ValueError:
            if late:
                raise
        sleep(_AGAIN_S)
        late = time.monotonic() > deadline  # it is read once more: we may have stood still, not the writer
