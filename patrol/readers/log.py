"""New bytes of a run's log. Pure."""

import re

from fleet.model.probe import LogSlice
from fleet.model.reading import Known, Missing, Reading
from fleet.text.frame import Section
from patrol.readers.section import text_of

_HEAD = re.compile(rb"(\d{1,18}:\d{1,20}) (\d{1,18}) (\d{1,15}) (\d{1,18})", re.ASCII)


def read_log(section: Section | None, at: float) -> Reading[LogSlice]:
    """The slice as it was sent: `DEVICE:INODE SIZE MTIME START` on the first line, then raw bytes.

    NUL bytes never arrive, so that `data` may be shorter than size - start.
    """
    read = text_of(section, "run.log")
    if isinstance(read, Missing):
        return read
    head, newline, content = (section.content if section else b"").partition(b"\n")
    match = _HEAD.fullmatch(head)
    if not match or not newline:
        return Missing("run.log: its first line is malformed")
    size, mtime, start = int(match[2]), int(match[3]), int(match[4])
    if start > size or len(content) > size - start:
        return Missing("run.log: more bytes came than the file holds")
    return Known(LogSlice(match[1].decode(), size, float(mtime), start, content), at, "run.log")
