"""Is babysit itself whole here: its packages, the files it sends, its courier, the clock it reads."""

import os
import re
import sys
import tempfile
import zoneinfo
from collections.abc import Iterator
from datetime import datetime
from importlib import import_module, metadata
from pathlib import Path

from babysit.acts.doctor.ground import Ground
from babysit.acts.doctor.lines import Check, Found, fail, ok, warn
from fleet.arming.ship import build_pyz
from fleet.link.child import run
from fleet.text.say import duration, size
from fleet.text.templates import box_script

_SIBLINGS = ("fleet", "handbook", "onbox", "patrol", "sentinels")
_AGAIN = "uv tool install --reinstall babysit"
_COURIER_S = 18.0
_BACK_S = 60.0
_DAY_S = 86400.0
_POSIX_ZONE = re.compile(r":?(<[^>]+>|[A-Za-z]{3,})[+-]?\d.*")


def installation(_: Ground) -> Iterator[Found]:
    """Version, interpreter, and every package that we need."""
    missing = []
    for wanted in metadata.requires("babysit") or ():
        name = re.split(r"[<>=!~;\[ ]", wanted)[0]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        yield fail(f"not installed: {', '.join(missing)}", _AGAIN)
    version = ".".join(map(str, sys.version_info[:3]))
    yield ok(f"babysit {metadata.version('babysit')}, python {version}")


def siblings(_: Ground) -> Iterator[Found]:
    """All our packages come from one place (docs/decisions/0001)."""
    home = Path(__file__).parents[3]
    foreign = {}
    for name in _SIBLINGS:
        origin = import_module(name).__file__
        if origin is None or Path(origin).parents[1] != home:
            foreign[name] = origin
    for name, origin in foreign.items():
        yield fail(f"the package {name!r} comes from {origin}, not from {home}", _AGAIN)
    if not foreign:
        yield ok(f"all from {home}")


def shipped(_: Ground) -> Iterator[Found]:
    """What goes to a box can be put together: the tool and the scripts."""
    try:
        tool, digest = build_pyz()
        script = box_script("frame", "records", "scan", "wait", "probe")
    except OSError as error:
        yield fail(f"the files for the box cannot be read: {error}", _AGAIN)
        return
    yield ok(f"onbox-{digest}.pyz ({size(len(tool))}), probe ({size(len(script))})")


def courier(_: Ground) -> Iterator[Found]:
    """A courier starts, finds nothing to do in an empty ledger, and leaves."""
    with tempfile.TemporaryDirectory(prefix="babysit-doctor-") as folder:
        words = [sys.executable, "-I", "-m", "fleet.notices.courier", folder, "1", "0"]
        ended = run(words, limit_s=_COURIER_S)
    if ended.status is None:
        yield fail(f"did not end within {_COURIER_S:g} s", f"{sys.executable} -I -c 'import fleet'")
    elif ended.status:
        yield fail(f"ended with {ended.status}: {ended.said}", _AGAIN)
    else:
        yield ok("starts, works on a ledger, ends")


def clock(ground: Ground) -> Iterator[Found]:
    """The wall clock has not gone back, and its zone is known."""
    made_at = Path(__file__).stat().st_mtime
    for before, what in (
        (made_at - _DAY_S, "this babysit was installed"),
        (ground.last_tick_at, "the last tick"),
    ):
        if before is not None and ground.now < before - _BACK_S:
            yield fail(f"it shows a time {duration(before - ground.now)} before {what}", "date")
            return
    here = datetime.fromtimestamp(ground.now).astimezone()
    says = f"{here.isoformat(timespec='minutes')} ({here.tzname()})"
    zone = os.environ.get("TZ")
    if zone is not None and not is_zone(zone):
        yield warn(f"TZ={zone!r} is no time zone known here; times are shown as UTC", "unset TZ")
    elif zone is None and not Path("/etc/localtime").exists():
        yield warn("this machine names no time zone; times are shown as UTC", "export TZ=Europe/Berlin")
    else:
        yield ok(says)


def is_zone(text: str) -> bool:
    """Whether the C library takes `text` for TZ: a name of the zone database, a file, or POSIX' own form."""
    name = text.removeprefix(":")
    if name in ("", "UTC") or _POSIX_ZONE.fullmatch(name):
        return True
    if name.startswith("/"):
        return Path(name).is_file()
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


CHECKS: tuple[Check[Ground], ...] = (
    Check("local", "installation", installation),
    Check("local", "siblings", siblings),
    Check("local", "shipped files", shipped),
    Check("local", "courier", courier),
    Check("local", "clock", clock),
)
