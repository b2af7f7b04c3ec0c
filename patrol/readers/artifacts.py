"""The newest files that a run's globs match. Pure."""

import re
from collections.abc import Sequence

from fleet.model.probe import Artifact
from fleet.model.reading import Known, Missing, Reading
from fleet.text.frame import Section
from patrol.readers.section import text_of

MAX_ARTIFACTS = 20
_LINE = re.compile(r"(\d{1,15}) (\d{1,18}) (.{1,4096})", re.ASCII)


def read_artifacts(sections: Sequence[Section], asked: int, at: float) -> Reading[tuple[Artifact, ...]]:
    """The newest 20 of all matches, newest first; empty when nothing matches. `asked` is how many globs were.

    A section a glob, a line a file: `MTIME SIZE PATH`. Missing when one glob could not be searched.
    """
    if len(sections) != asked:
        return Missing("the artifacts: not every glob is in the answer")
    found: dict[str, Artifact] = {}
    for section in sections:
        text = text_of(section, "the folder of the artifacts")
        if isinstance(text, Missing):
            return text
        for line in text.split("\n")[: MAX_ARTIFACTS + 1]:
            match = _LINE.fullmatch(line)
            if match:
                found[match[3]] = Artifact(match[3], int(match[2]), float(match[1]))
            elif line:
                return Missing("the artifacts: a line is malformed")
    newest = sorted(found.values(), key=lambda artifact: (-artifact.mtime, artifact.path))
    return Known(tuple(newest[:MAX_ARTIFACTS]), at, "artifacts")
