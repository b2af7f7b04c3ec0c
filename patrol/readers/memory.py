"""How much memory is left before something is killed. Pure."""

from collections.abc import Sequence

from fleet.model.probe import Memory
from fleet.model.reading import Known, Missing, Reading
from fleet.text.frame import Section
from patrol.readers.section import figure, text_of

# cgroup v1 says "no limit" by the largest page-aligned long. Anything that large is no limit. R43
_V1_NO_LIMIT = 9223372036854771712
_NEAR_NO_LIMIT = _V1_NO_LIMIT // 2
_MAX_LINES = 64


def read_memory(section: Section | None, at: float) -> Reading[Memory]:
    """The tightest limit above our processes: the cgroup level with the least room, else the machine.

    A line a level, from our own cgroup up to the root: `v2|v1 USED LIMIT OOM_KILLS`, then
    `meminfo TOTAL AVAILABLE` in KiB; `-` where a file is missing, `max` for no limit.
    Source: memory.current, memory.max, memory.events; memory.usage_in_bytes,
    memory.limit_in_bytes, memory.oom_control; /proc/meminfo.
    """
    text = text_of(section, "memory")
    if isinstance(text, Missing):
        return text
    lines = [line.split(" ") for line in text.split("\n")[:_MAX_LINES]]
    levels = [level for level in map(_level, lines) if level]
    machine = next((found for found in map(_machine, lines) if found), None)
    # The root's count holds those of the levels below it in v2; in v1 each level counts its own.
    kills = max((level.oom_kill_count for level in levels if level.oom_kill_count is not None), default=None)
    limits = [level for level in levels if level.limit_bytes is not None]
    tightest = min(limits, key=_room, default=None)
    if tightest and (machine is None or (tightest.limit_bytes or 0) <= (machine.limit_bytes or 0)):
        return Known(Memory(tightest.used_bytes, tightest.limit_bytes, kills), at, "cgroup")
    if machine:
        return Known(Memory(machine.used_bytes, machine.limit_bytes, kills), at, "/proc/meminfo")
    if levels:
        return Known(Memory(levels[0].used_bytes, None, kills), at, "cgroup")
    return Missing("memory: neither a cgroup nor /proc/meminfo could be read")


def _room(memory: Memory) -> int:
    return (memory.limit_bytes or 0) - memory.used_bytes


def _machine(words: Sequence[str]) -> Memory | None:
    if len(words) != 3 or words[0] != "meminfo":
        return None
    total, available = figure(words[1]), figure(words[2])
    if total is None or available is None:
        return None
    return Memory(max(0, total - available) * 1024, total * 1024, None)


def _level(words: Sequence[str]) -> Memory | None:
    if len(words) != 4 or words[0] not in {"v1", "v2"}:
        return None
    used, limit, kills = figure(words[1]), words[2], figure(words[3])
    if used is None:
        return None
    if limit == "max":
        return Memory(used, None, kills)
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 20):
        return None
    return Memory(used, None if int(limit) >= _NEAR_NO_LIMIT else int(limit), kills)
