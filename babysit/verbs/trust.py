"""trust: confirm a box's host key."""

import click

from babysit.verbs import speak
from babysit.verbs.patrol import SPEC_OPTION


@click.command()
@click.argument("box")
@click.option("--fingerprint", metavar="SHA256:...", help="The key you expect; nothing is asked then.")
@SPEC_OPTION
def trust(*, box: str, fingerprint: str | None, spec: str | None) -> int:
    """Confirm a box's host key: shows what is known and what is offered, then asks for the fingerprint.

    Read it at the provider's console, not from this screen: an attacker's key would stand here too.
    """
    from datetime import UTC, datetime

    from babysit.acts import trust as act
    from babysit.acts.here import box_named, here
    from fleet.errors import NeedsApproval, UsageError

    place = here(spec)
    with place.ledger() as ledger:
        named = box_named(place, ledger, box)
        if fingerprint is not None:
            act.confirm(ledger, named, fingerprint)
            speak.line(f"{box}: {fingerprint} is pinned from now on")
            return 0
        shown = act.offer(ledger, named)
        if shown.known is not None:
            since = datetime.fromtimestamp(shown.known.at, UTC).date().isoformat()
            speak.line(f"  known  {shown.known_fingerprint}   since {since}")
        else:
            speak.line("  known  none")
        speak.line(f"  offers {shown.fingerprint}   {shown.offered.type}")
        if shown.same:
            speak.line(f"{box} shows the key that is pinned; nothing to do.")
            return 0
        if not speak.at_a_terminal():
            says = f"the key of {box} is not confirmed; nothing was pinned"
            command = f"babysit trust {box} --fingerprint {shown.fingerprint}"
            raise NeedsApproval(
                says, where=box, hint="compare it with the provider's console first", next=(command,)
            )
        typed = click.prompt("Type the new fingerprint, as the provider's console shows it", err=True)
        if typed.strip() != shown.fingerprint:
            raise UsageError("that is not the fingerprint the box offers; nothing was pinned", where=box)
        act.pin(ledger, shown, "trust")
        speak.line(f"{box}: {shown.fingerprint} is pinned from now on")
        return 0
