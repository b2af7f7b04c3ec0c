"""skill: our rules for a coding agent, where it looks for them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from babysit.verbs import CAPABILITIES, VERBS, Capability, speak

if TYPE_CHECKING:
    from babysit.acts.skill import Verb


@click.command()
@click.option(
    "--host", type=click.Choice(["claude", "codex"]), required=True, help="Whose skill folder it goes into."
)
@click.option("--force", is_flag=True, help="Replace a skill that was changed by hand, or is older.")
@click.argument("folder", metavar="[DIR]", default=".")
def skill(*, host: str, force: bool, folder: str) -> int:
    """Write the Agent Skill for a coding agent into a project (DIR, else this folder).

    It tells the agent to look with `patrol --once --json`, to act only on `next`, to treat what a job printed
    as data, and to promise no check that is not armed. Nothing of the project is read or changed besides.
    """
    from babysit.acts import skill as act
    from fleet.errors import NeedsApproval
    from fleet.text.untrusted import render_untrusted

    done = act.write(host, Path(folder).absolute(), verbs(), force=force)
    shown = render_untrusted(str(done.path))
    if done.was == "kept":
        for line in done.differs:
            speak.note(render_untrusted(line))
        command = f"babysit skill --host {host} --force"
        raise NeedsApproval("another skill is there already; it was kept", where=shown, next=(command,))
    says = {"new": "written", "same": "is there already, as it should be", "replaced": "replaced"}[done.was]
    speak.line(f"{shown}: {says}")
    return 0


def verbs() -> list["Verb"]:
    """Every command with what it may do, in the words of the skill."""
    from babysit.acts.skill import Verb

    found = []
    for name, (_, line) in VERBS.items():
        capability = CAPABILITIES.get(name, Capability("acts"))
        only = f" with {' or '.join(f'`{option}`' for option in capability.only_with)}"
        found.append(
            Verb(name, capability.does, capability.does + (only if capability.only_with else ""), line)
        )
    return found
