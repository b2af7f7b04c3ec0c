"""trust: confirm a box's host key, or a known key at a new address."""

from typing import TYPE_CHECKING

import click

from babysit.verbs import speak
from babysit.verbs.patrol import SPEC_OPTION

if TYPE_CHECKING:
    from babysit.acts.trust import Likeness, Offer


@click.command()
@click.argument("box")
@click.option("--fingerprint", metavar="SHA256:...", help="The key you expect; nothing is asked then.")
@click.option("--yes", is_flag=True, help="The pinned key at a new address: it is the same box.")
@SPEC_OPTION
def trust(*, box: str, fingerprint: str | None, yes: bool, spec: str | None) -> int:
    """Confirm a box's host key: shows what is known and what is offered, then asks for the fingerprint.

    Read it at the provider's console, not from this screen: an attacker's key would stand here too.

    A box that shows its pinned key at a new address or port needs a yes only.
    """
    from babysit.acts import trust as act
    from babysit.acts.here import box_named, here

    place = here(spec)
    with place.ledger() as ledger:
        named = box_named(place, ledger, box)
        if fingerprint is not None:
            act.confirm(ledger, named, fingerprint)
            speak.line(f"{box}: {fingerprint} is pinned from now on")
            return 0
        shown = act.offer(ledger, named)
        _tell(shown)
        alike = act.likeness(ledger, named, shown) if shown.moved_from else None
        if alike is not None and alike.same is not False:
            _ask_moved(shown, alike, yes=yes)
            act.pin(ledger, shown, "trust")
            speak.line(f"{box} is followed to {shown.address} from now on")
            return 0
        if alike is not None:
            speak.line(f"  but    {alike.says}: another machine, as images share keys")
        elif shown.same:
            speak.line(f"{box} shows the key that is pinned; nothing to do.")
            return 0
        _ask_key(shown)
        act.pin(ledger, shown, "trust")
        speak.line(f"{box}: {shown.fingerprint} is pinned from now on")
        return 0


def _tell(shown: "Offer") -> None:
    from datetime import UTC, datetime

    if shown.known is not None:
        since = datetime.fromtimestamp(shown.known.at, UTC).date().isoformat()
        speak.line(f"  known  {shown.known_fingerprint}   since {since}")
    else:
        speak.line("  known  none")
    speak.line(f"  offers {shown.fingerprint}   {shown.offered.type}")
    if shown.other_type:
        speak.line(f"  which is a key of another type: {shown.other_type} was asked for first,")
        speak.line("  and the box has none of it any more")
    if shown.moved_from:
        speak.line(f"  was at {shown.moved_from}")
        speak.line(f"  now at {shown.address}   with the same key")


def _ask_moved(shown: "Offer", alike: "Likeness", *, yes: bool) -> None:
    """Return when a person says that the box moved. Raises NeedsApproval."""
    from fleet.errors import NeedsApproval
    from fleet.text.quote import sh

    speak.prose(f"  and    {alike.says}")
    if yes or (speak.at_a_terminal() and click.confirm("Is it the same box at a new address?", err=True)):
        return
    raise NeedsApproval(
        f"the new address of {shown.box} is not confirmed; nothing was changed",
        where=shown.box,
        hint="images share host keys: compare with the provider's console first",
        next=(f"babysit trust {sh(shown.box)} --yes",),
    )


def _ask_key(shown: "Offer") -> None:
    """Return when a person typed the offered fingerprint. Raises NeedsApproval, HostKeyChanged."""
    from babysit.acts.trust import not_it
    from fleet.errors import NeedsApproval
    from fleet.text.quote import sh

    if not speak.at_a_terminal():
        raise NeedsApproval(
            f"the key of {shown.box} is not confirmed; nothing was pinned",
            where=shown.box,
            hint="compare it with the provider's console first",
            next=(f"babysit trust {sh(shown.box)} --fingerprint {shown.fingerprint}",),
        )
    typed = click.prompt("Type the new fingerprint, as the provider's console shows it", err=True)
    if typed.strip() != shown.fingerprint:
        raise not_it(shown, typed.strip())
