"""gc: what old runs left on a box."""

from typing import TYPE_CHECKING, Any

import click

from babysit.verbs import speak
from babysit.verbs.patrol import JSON_OPTION, SPEC_OPTION

if TYPE_CHECKING:
    from fleet.arming.gc import Cleared, Old

_DAYS = click.IntRange(0, 3650)
_SHOWN_CHARS = 60


@click.command()
@click.argument("box")
@click.option("--days", type=_DAYS, default=30, show_default=True, help="Only what is at least so old.")
@click.option("--superseded", is_flag=True, help="Also folders of ended runs whose name has a newer run.")
@click.option("--finished", is_flag=True, help="Also folders of runs that ended well.")
@click.option("--yes", is_flag=True, help="Remove it.")
@JSON_OPTION
@SPEC_OPTION
def gc(
    *, box: str, days: int, superseded: bool, finished: bool, yes: bool, as_json: bool, spec: str | None
) -> int:
    """List what old runs left on a box, with sizes; with --yes remove it.

    Shipped tools that no run's plan names, and halves of runs whose arming was cut. Folders of runs only when
    asked for; never one without an end record, one whose lock is held, or one of which anything lives. A run
    that failed or was stopped and has its name still can be resumed, and stays.
    """
    from babysit.acts import gc as act
    from babysit.acts.here import box_named, here_anyway

    place = here_anyway(spec)
    with place.ledger(write=False) as ledger:
        box_spec = box_named(place, ledger, box)
    found = act.gc(place, box_spec, days=days, superseded=superseded, finished=finished, remove=yes)
    failed = any(not each.goes for each in found.old if each.why.startswith("it cannot"))
    code = 10 if failed else 0
    if as_json:
        speak.document(_document(box, found, removed=yes, code=code))
        return code
    _say(box, found, removed=yes)
    if not yes and any(each.goes for each in found.old):
        asked = "".join(
            f" --{flag}" for flag, on in (("superseded", superseded), ("finished", finished)) if on
        )
        speak.line(f"next: babysit gc {box}{'' if days == 30 else f' --days {days}'}{asked} --yes")
    return code


def _say(box: str, found: "Cleared", *, removed: bool) -> None:
    from fleet.text.say import plural, size

    going = [each for each in found.old if each.goes]
    total = size(sum(each.bytes for each in going))
    things = plural(len(going), "thing")
    if removed:
        speak.line(f"{box}: {things} removed, {total}")
    elif going:
        speak.line(f"{box}: {things} would go, {total}; nothing was removed")
    else:
        speak.line(f"{box}: nothing that old is left over")
    for each in going:
        speak.line(_line(each))
    kept = [each for each in found.old if not each.goes]
    if kept:
        speak.line("kept")
    for each in kept:
        speak.line(_line(each))
    if found.more:
        speak.line(f"{plural(found.more, 'thing')} more were not looked at: call it again")


def _line(each: "Old") -> str:
    from fleet.text.say import size
    from fleet.text.untrusted import render_untrusted

    name, why = render_untrusted(each.name, _SHOWN_CHARS), render_untrusted(each.why, 80)
    return f"  {each.kind:<5} {name:<30} {size(each.bytes):>8} {f'{each.days} d':>6}  {why}".rstrip()


def _document(box: str, found: "Cleared", *, removed: bool, code: int) -> dict[str, Any]:
    return {
        "schema": "babysit.gc/1",
        "ok": code == 0,
        "exit_code": code,
        "box": box,
        "removed": removed,
        "things": [
            {
                "kind": each.kind,
                "untrusted_name": each.name,
                "bytes": each.bytes,
                "days": each.days,
                "goes": each.goes,
                "untrusted_why": each.why,
            }
            for each in found.old
        ],
        "more": found.more,
    }
