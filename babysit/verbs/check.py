"""check: is what this machine knows sound?"""

from typing import TYPE_CHECKING

import click

from babysit.verbs import speak
from babysit.verbs.patrol import JSON_OPTION, SPEC_OPTION

if TYPE_CHECKING:
    from babysit.acts.check import Checked


@click.command()
@click.option("--repair", is_flag=True, help="Move a damaged ledger aside and rebuild it. Deletes nothing.")
@JSON_OPTION
@SPEC_OPTION
def check(*, repair: bool, as_json: bool, spec: str | None) -> int:
    """Look at every page, row and file of the ledger on this machine. Asks no box, changes nothing.

    Each finding comes with its fix. With --repair a damaged ledger is moved aside as it was found, what can
    be read of it and of its backups goes into a new one, and what is lost is named with the command that
    takes it back from its box. Exit 0 fine, 10 findings, 2 the ledger cannot be used.
    """
    from babysit.acts import check as act
    from babysit.acts.here import here_anyway
    from fleet.text.say import plural
    from fleet.text.untrusted import render_untrusted

    place = here_anyway(spec)
    done = act.check(place, repair=repair)
    if as_json:
        speak.document(_document(done, str(place.folder)))
        return done.exit_code
    for line in act.lines(done.repaired) if done.repaired else ():
        speak.prose(render_untrusted(line))
    for finding in done.findings:
        speak.prose(render_untrusted(finding.what))
        speak.line(render_untrusted(f"  next: {finding.fix}"))
    if done.findings:
        speak.prose(f"{plural(len(done.findings), 'finding')} in {place.folder}")
    else:
        speak.prose(f"The ledger in {place.folder} is sound.")
    return done.exit_code


def _document(done: "Checked", folder: str) -> dict[str, object]:
    """The JSON shape of a check, schema babysit.check/1."""
    repaired = done.repaired
    return {
        "schema": "babysit.check/1",
        "ok": done.exit_code == 0,
        "exit_code": done.exit_code,
        "folder": folder,
        "findings": [
            {
                "what": each.what,
                "fix": each.fix,
                "damaged": each.damaged,
                "strange": each.strange,
                "unusable": each.unusable,
            }
            for each in done.findings
        ],
        "repaired": None
        if repaired is None
        else {
            "aside": str(repaired.aside),
            "kept": repaired.kept,
            "restored": repaired.restored,
            "lost": repaired.lost,
            "unread": list(repaired.unread),
            "lost_runs": [run.run_id for run in repaired.lost_runs],
            "backup": str(repaired.backup) if repaired.backup else None,
        },
    }
