"""Which stages start Python so that it holds back what it prints. Pure; a guess from the text.

The chain gives every stage PYTHONUNBUFFERED=1. A stage can only lose it by its own words, so these are read
before anything starts: what a log that stands still for an hour means is not seen from the outside.
"""

import re
from itertools import takewhile

_NAME = "PYTHONUNBUFFERED"
_COMMANDS = re.compile(r"[;&|\n(){}`]+")
_PYTHON = re.compile(r"(?:\S*/)?python[\d.]*")
_FLAGS = re.compile(r"-[A-Za-z]+")
_KEPT = re.compile(rf"-[A-Za-z]*E|--preserve-env(?:$|=.*\b{_NAME}\b)")
_QUOTES = str.maketrans("", "", "'\"")
_REMARK = re.compile(r"(?m)(?:^|(?<=\s))#.*$")


def holds_back(command: str) -> str | None:
    """The words of `command` that take the variable from a Python without `-u`; None where there are none."""
    gone = None
    for part in _COMMANDS.split(_REMARK.sub("", command.replace("\\\n", " "))):
        words = part.translate(_QUOTES).split()
        if "unset" in words[:1] and _NAME in words:
            gone = f"unset {_NAME}"
        for place, word in enumerate(words):
            if _PYTHON.fullmatch(word):
                found = _taken(words[:place]) or _ignored(words[place + 1 :]) or gone
                if found and "u" not in _flags(words[place + 1 :]) and not _given(words[:place]):
                    return found
                break
    return None


def _taken(before: list[str]) -> str | None:
    """How the words before `python` empty its environment, or that variable."""
    if f"{_NAME}=" in before:
        return f"{_NAME}="
    for place, word in enumerate(before):
        rest, name = before[place + 1 :], word.rpartition("/")[2]
        if name == "env":
            # Its own words come first: what stands behind a value may be the flag of another command.
            own = list(takewhile(lambda said: said.startswith("-") or said == _NAME, rest))
            if {"-", "-i", "--ignore-environment"} & set(own):
                return "env -i"
            if f"--unset={_NAME}" in own or f"-u {_NAME}" in " ".join(own):
                return f"env -u {_NAME}"
        if name == "sudo" and not any(map(_KEPT.match, rest)):
            return "sudo"
    return None


def _ignored(behind: list[str]) -> str | None:
    """The flag behind `python` with which it does not look at the environment."""
    return next((f"python -{letter}" for letter in "EI" if letter in _flags(behind)), None)


def _flags(behind: list[str]) -> str:
    """The letters of Python's own flags: those before its script, `-c` or `-m`."""
    letters = ""
    for word in behind:
        if not _FLAGS.fullmatch(word) or word[1] in "cm":
            break
        letters += word[1:]
    return letters


def _given(before: list[str]) -> bool:
    return any(word.startswith(f"{_NAME}=") and word != f"{_NAME}=" for word in before)
