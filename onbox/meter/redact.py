"""What of a command line may be written down: values that are named as secrets may not."""

import re
from typing import List, Sequence

_MOST = 16384
_MASK = "***"
_NAME = r"(?:token|passw(?:or)?d|passphrase|api[-_]?key|access[-_]?key|private[-_]?key|secret)"
_OPTION = re.compile(r"--?[\w-]*" + _NAME, re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?<![\w-])((?:--?)?[\w-]*" + _NAME + r"=)(?:\"[^\"]{0,512}\"|'[^']{0,512}'|[^\s;&|]+)", re.IGNORECASE
)
_BESIDE = re.compile(
    r"(?<![\w-])(--?[\w-]*" + _NAME + r"\s+)(?:\"[^\"]{0,512}\"|'[^']{0,512}'|[^\s;&|-][^\s;&|]*)",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(?<!\w)(\w+://)[^\s/@]+@")


def redacted(words: Sequence[str], most: int = _MOST) -> List[str]:
    """`words` with `***` for what stands behind `--token`, `--password=`, `HF_TOKEN=`, in a URL's login.

    Cut at `most` characters in all, which a last word `…` says.
    """
    found: List[str] = []
    left, secret = most, False
    for word in words:
        if left <= 0:
            break
        shown = _MASK if secret else _masked(word[: 2 * most])
        secret = _OPTION.fullmatch(word) is not None
        found.append(shown if len(shown) <= left else shown[:left] + "…")
        left -= len(shown) + 1
    return found if len(found) == len(words) else [*found, "…"]


def _masked(word: str) -> str:
    return _LOGIN.sub(r"\1***@", _BESIDE.sub(r"\1***", _ASSIGNED.sub(r"\1***", word)))
