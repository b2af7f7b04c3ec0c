"""The one filter between what we say and where it is said: known secrets never pass it."""

import re
from urllib.parse import quote, unquote, urlsplit

_KNOWN: set[str] = set()
_MASK = "***"
_SHORTEST = 6  # shorter pieces occur in ordinary words
_URL_WITH_LOGIN = re.compile(r"(\w+://)[^\s/@]+@")


def learn(secret: str) -> None:
    """From now on `secret` is masked, and so are the long parts of it when it is a URL."""
    parts = {secret, unquote(secret), quote(secret, safe="")}
    split = urlsplit(secret)
    if split.scheme and "://" in secret:
        parts |= {split.username or "", split.password or "", *split.path.split("/")}
        parts |= {piece.partition("=")[2] for piece in split.query.split("&")}
        parts |= {unquote(part) for part in tuple(parts)}
    _KNOWN.update(part for part in parts if len(part) >= _SHORTEST)


def redact(text: str) -> str:
    """`text` with every known secret masked, longest first, and logins inside URLs too."""
    for secret in sorted(_KNOWN, key=len, reverse=True):
        text = text.replace(secret, _MASK)
    return _URL_WITH_LOGIN.sub(rf"\1{_MASK}@", text)
