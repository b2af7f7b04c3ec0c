"""The one filter before anything we say: no known secret passes it, nor what looks like one."""

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote, urlsplit

_KNOWN: set[str] = set()
_MASK = "***"
_SHORTEST = 6  # shorter pieces occur in ordinary words
_URL_WITH_LOGIN = re.compile(r"(?<=\w://)[^\s/@]+@")

# What secrets look like wherever a program prints them: what each holds, then its whole shape, which is
# compiled only for a text that holds the first. Source: the issuers' documented prefixes.
_SHAPES: dict[str, str] = {
    "gh": r"\bgh[pousr]_[A-Za-z0-9_]{20,}",
    "github_pat_": r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    "glpat-": r"\bglpat-[A-Za-z0-9_-]{16,}",
    "hf_": r"\bhf_[A-Za-z0-9]{20,}",
    "sk-": r"\bsk-[A-Za-z0-9_-]{20,}",
    "AKIA": r"\bAKIA[A-Z0-9]{16}\b",
    "ASIA": r"\bASIA[A-Z0-9]{16}\b",
    "AIza": r"\bAIza[A-Za-z0-9_-]{35}",
    "xox": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "npm_": r"\bnpm_[A-Za-z0-9]{36}\b",
    # A signed JSON web token. It begins where the run of its letters does: a search inside of it for another
    # beginning would cost the square of its length.
    "eyJ": r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{11,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}",
    ":AA": r"\b\d{8,10}:AA[A-Za-z0-9_-]{32,}",  # a chat bot's token
    "PRIVATE KEY": r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\w+/=\s\\]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
    "uthorization": r"(?i)(?<=authorization: )(?:bearer|basic|token) +[^\s\"']+",
}


def learn(secret: str) -> None:
    """From now on `secret` is masked, and so are the long parts of it when it is a URL.

    Masked as it is and as other programs would print it: percent-encoded, in JSON, in base64.
    """
    for part in _parts(secret):
        _KNOWN.update(shape for shape in _shapes(part) if len(shape) >= _SHORTEST)


def redact(text: str) -> str:
    """`text` with every known secret masked, longest first, then token shapes and logins inside URLs."""
    for secret in sorted(_KNOWN, key=len, reverse=True):
        text = text.replace(secret, _MASK)
    for mark, shape in _SHAPES.items():
        if mark in text:
            text = re.sub(shape, _MASK, text)
    return _URL_WITH_LOGIN.sub(f"{_MASK}@", text)


def _parts(secret: str) -> Iterator[str]:
    yield secret
    split = urlsplit(secret)
    if not split.scheme or "://" not in secret:
        return
    yield from (split.username or "", split.password or "", *split.path.split("/"))
    for pair in split.query.split("&"):
        yield pair.partition("=")[2]
    if split.password:
        login = f"{unquote(split.username or '')}:{unquote(split.password)}"
        yield login
        yield base64.b64encode(login.encode()).decode()  # as it stands in a basic authorization header


def _shapes(part: str) -> Iterator[str]:
    plain = unquote(part)
    for text in (part, plain):
        yield from (text, quote(text, safe=""), quote(text), quote_plus(text), json.dumps(text)[1:-1])
    yield quote(plain, safe="").lower()
    if len(plain) >= _SHORTEST:
        yield base64.b64encode(plain.encode()).decode().rstrip("=")
        yield base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")
