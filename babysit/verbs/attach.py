"""attach: look into a run's tmux window."""

import os
import shutil

import click

from babysit.verbs import speak
from babysit.verbs.named import run_argument
from babysit.verbs.patrol import SPEC_OPTION
from fleet.errors import NotFound, UsageError

_STDOUT = 1


@click.command()
@run_argument()
@click.option("--write", is_flag=True, help="Let the window take what you type.")
@click.option("--print", "only_print", is_flag=True, help="Print the command instead of running it.")
@SPEC_OPTION
def attach(*, box: str | None, run: str, write: bool, only_print: bool, spec: str | None) -> int:
    """Look into a run's tmux window, by your own ssh; Ctrl-b d leaves it.

    The window shows the run as long as it lives. What the job prints goes to its log: `babysit logs BOX RUN
    -f` shows that. Read-only without --write; closing the window ends no run.
    """
    from babysit.acts import attach as act
    from babysit.acts.here import here_anyway, run_named
    from fleet.text.quote import sh

    place = here_anyway(spec)
    with place.ledger(write=False) as ledger:
        known = run_named(ledger, run, box)
    named = f"{known.box.name} {known.name}"
    logs = f"babysit logs {named} -f"
    if not only_print and not (speak.at_a_terminal() and os.isatty(_STDOUT)):
        raise UsageError(
            "a window needs a terminal", where=run, next=(logs, f"babysit attach {named} --print")
        )
    words = act.window_command(place, known, write=write)
    if only_print:
        speak.line(" ".join(sh(word) for word in words))
        return 0
    program = shutil.which(words[0])
    if program is None:
        raise NotFound("there is no ssh program here", where=words[0], next=(logs,))
    speak.note(f"babysit: its output is in its log ({logs}); Ctrl-b d leaves the window")
    return os.execv(program, words)  # noqa: S606 - a word list; our place is taken by the user's own ssh
