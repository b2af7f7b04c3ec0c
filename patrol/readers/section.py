"""One section of an answer: was it read at all, and plain figures out of its text. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from fleet.model.reading import Missing
from fleet.text.frame import Section

NOT_THERE = 2
NOT_PLAIN = 3
NO_ROOM = 27
_WHY = {
    NOT_THERE: "is not there",
    NOT_PLAIN: "is not a plain file",
    NO_ROOM: "had no room in the answer",
    124: "did not answer in its time",
    126: "cannot be run on the box",
    127: "is not installed on the box",
}
MAX_DIGITS = 18


class Answer(Struct, frozen=True):
    """All sections of one probe by name and run id; `several` where a name occurs more than once."""

    one: Mapping[tuple[str, str | None], Section]
    several: Mapping[tuple[str, str | None], tuple[Section, ...]]
    at: float

    def get(self, name: str, run_id: str | None = None) -> Section | None:
        """The first section of that name, or None."""
        return self.one.get((name, run_id))

    def all(self, name: str, run_id: str | None = None) -> tuple[Section, ...]:
        """All sections of that name in the order they were sent; empty when there is none."""
        return self.several.get((name, run_id), ())


def index(sections: tuple[Section, ...], at: float) -> Answer:
    """`sections` as an Answer whose readings were made at `at` (box time)."""
    several: dict[tuple[str, str | None], list[Section]] = {}
    for section in sections:
        several.setdefault((section.name, section.run_id), []).append(section)
    return Answer(
        {key: found[0] for key, found in several.items()},
        {key: tuple(found) for key, found in several.items()},
        at,
    )


def text_of(section: Section | None, what: str) -> str | Missing:
    """What `section` holds, or why it tells nothing about `what`."""
    if section is None:
        return Missing(f"{what}: the answer does not hold it")
    if section.status == 0:
        return section.text
    return Missing(f"{what} {_WHY.get(section.status, f'could not be read (status {section.status})')}")


def figure(text: str | None) -> int | None:
    """A count of at most 18 digits, or None for all else."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        return None
    return int(text)


def fields(text: str, max_lines: int = 64) -> dict[str, str] | None:
    """`key=value` lines as a dict, or None when a line is none, a key comes twice or there are too many."""
    found: dict[str, str] = {}
    lines = [line for line in text.split("\n", max_lines + 1) if line]
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals or not key.isidentifier() or key in found or len(lines) > max_lines:
            return None
        found[key] = value
    return found
