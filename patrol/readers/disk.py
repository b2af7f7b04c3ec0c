"""How full the mounts are, in bytes and in inodes. Pure."""

import re
from collections.abc import Sequence

from fleet.model.probe import Disk
from fleet.model.reading import Known, Missing, Reading
from fleet.text.frame import Section
from patrol.readers.section import text_of

# device, blocks, used, free, percent, mount: a device may hold spaces; btrfs counts no inodes and prints `-`
_LINE = re.compile(
    r"\S.{0,300}?\s+(?:\d{1,18}|-)\s+(\d{1,18}|-)\s+(-?\d{1,18}|-)\s+(?:\d{1,3}%|-)\s+(/.*)", re.ASCII
)


def read_disks(blocks: Sequence[Section], inodes: Sequence[Section], at: float) -> Reading[tuple[Disk, ...]]:
    """One Disk a path that was asked for, in that order; Missing as a whole when one cannot be read.

    The first line of a section is the path as it was asked for (`-`: the state folder). Percent are
    used / (used + free), None for inodes that are not counted. Source: `df -P -k`, `df -P -i`.
    """
    counted = {_path(section): _figures(section.text) for section in inodes if section.status == 0}
    disks: list[Disk] = []
    for section in blocks:
        text = text_of(section, f"df of disk {len(disks) + 1}")
        if isinstance(text, Missing):
            return text
        match _figures(text):
            case (int() as used_kib, int() as free_kib, mount):
                pass
            case _:
                return Missing(f"df of disk {len(disks) + 1} is malformed")
        match counted.get(_path(section)):
            case (int() as used, int() as free, _):
                pct = _pct(used, free)
            case _:
                pct = None
        disks.append(Disk(_path(section), mount, _pct(used_kib, free_kib) or 0.0, free_kib * 1024, pct))
    return Known(tuple(disks), at, "df") if disks else Missing("df: the answer does not hold it")


def _path(section: Section) -> str:
    return section.text.partition("\n")[0]


def _figures(text: str) -> tuple[int | None, int | None, str] | None:
    match = _LINE.fullmatch(text.strip("\n").rpartition("\n")[2])
    if not match:
        return None
    used, free = (None if word == "-" else max(0, int(word)) for word in (match[1], match[2]))
    return used, free, match[3]


def _pct(used: int, free: int) -> float | None:
    """None where there is none of it at all, as inodes on a file system that reports 0 of 0."""
    return 100.0 * used / (used + free) if used + free else None
