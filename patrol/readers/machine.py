"""The box's clock, uptime and identities. Pure."""

import re

from fleet.errors import ProbeUnreadable
from fleet.model.reading import Known, Missing, Reading
from fleet.text.frame import Section
from patrol.readers.section import figure, text_of

_UPTIME = re.compile(r"(\d{1,12}(?:\.\d{1,9})?) ", re.ASCII)
_BOOT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\n*")
_MACHINE_ID = re.compile(r"[0-9a-f]{32}\n*")
_BOX_ID = re.compile(r"id=([0-9a-f]{32})\n*")


def read_clock(section: Section | None) -> float:
    """The box's clock, epoch seconds, by which all else is judged.

    Raises ProbeUnreadable when it was not told. Source: `date +%s`.
    """
    told = figure(section.text.partition("\n")[0]) if section and section.status == 0 else None
    if told is None:
        raise ProbeUnreadable("the box did not tell its clock (date +%s), so no age can be judged")
    return float(told)


def read_uptime(section: Section | None, at: float) -> Reading[float]:
    """Seconds since the kernel started. Source: /proc/uptime, second line of the clock section."""
    text = text_of(section, "/proc/uptime")
    if isinstance(text, Missing):
        return text
    match = _UPTIME.match(text.partition("\n")[2])
    return Known(float(match[1]), at, "/proc/uptime") if match else Missing("/proc/uptime is not a number")


def read_boot_id(section: Section | None, at: float) -> Reading[str]:
    """The kernel's id of this boot. Source: /proc/sys/kernel/random/boot_id."""
    text = text_of(section, "the boot id")
    if isinstance(text, Missing):
        return text
    if not _BOOT_ID.fullmatch(text):
        return Missing("the boot id is malformed")
    return Known(text.strip(), at, "boot_id")


def read_init(section: Section | None, at: float) -> Reading[int]:
    """When the first process of the box started, in ticks since the kernel did. Source: /proc/1/stat."""
    text = text_of(section, "the start of the first process")
    if isinstance(text, Missing):
        return text
    born = figure(text.strip())
    if born is None:
        return Missing("the start of the first process is no number")
    return Known(born, at, "/proc/1/stat")


def read_machine_id(section: Section | None, at: float) -> Reading[str]:
    """The id of the machine, or of its image; many containers have none. Source: /etc/machine-id."""
    text = text_of(section, "the machine id")
    if isinstance(text, Missing):
        return text
    if not _MACHINE_ID.fullmatch(text):
        return Missing("the machine id is malformed")
    return Known(text.strip(), at, "/etc/machine-id")


def read_box_id(section: Section | None, at: float) -> Reading[str]:
    """The random id that this box's state folder carries. Source: the `box` record."""
    text = text_of(section, "the box record")
    if isinstance(text, Missing):
        return text
    match = _BOX_ID.fullmatch(text)
    return Known(match[1], at, "box") if match else Missing("the box record is malformed")
