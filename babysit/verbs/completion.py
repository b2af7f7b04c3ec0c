"""completion: the script by which a shell completes verbs, boxes and runs, and the names it then asks for."""

from collections.abc import Callable, Iterable
from typing import Any

import click

from babysit.verbs import speak

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_BABYSIT_COMPLETE"
_Offer = Callable[[click.Context, str | None], Iterable[str]]


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(*, shell: str) -> int:
    """Print the script that completes verbs, options, boxes and runs in your shell. Installs nothing.

    Names come from babysit.toml and from what was armed here; no box is asked.

    \b
      bash   eval "$(babysit completion bash)"     in ~/.bashrc
      zsh    eval "$(babysit completion zsh)"      in ~/.zshrc, after compinit
      fish   babysit completion fish | source      in ~/.config/fish/config.fish
    """  # noqa: D301 - click wants the very character
    from click.shell_completion import get_completion_class

    from babysit.verbs import cli

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - one of SHELLS
    script = kind(cli, {}, "babysit", _VARIABLE)
    speak.line((script.source_template % script.source_vars()).rstrip("\n"))
    return 0


def knows_names(command: click.Command) -> None:
    """Let the arguments of `command` that name a box or a run complete such names."""
    offers: dict[str | None, _Offer] = {"box": _boxes, "run": _runs}
    for param in command.params:
        offer = offers.get(param.name)
        if offer is not None and isinstance(param, click.Argument):
            param.shell_complete = _completer(offer)  # type: ignore[assignment, method-assign]


def _completer(offer: _Offer) -> Callable[[click.Context, str], list[Any]]:
    def complete(ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from fleet.errors import BabysitError

        try:
            found = set(offer(ctx, ctx.params.get("spec")))
        except (BabysitError, OSError):
            return []  # whoever presses a key wants no message in the middle of a line
        # A shell takes what we say apart again. Spec and ledger hold only names by the one grammar, which
        # mean nothing to it: a file with any other is not read at all.
        return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete)]

    return complete


def _boxes(_ctx: click.Context, spec: str | None) -> Iterable[str]:
    from babysit.acts.here import here_anyway

    place = here_anyway(spec)
    yield from place.spec.boxes
    yield from (run.box for run in place.spec.runs.values() if run.box is not None)
    with place.ledger(write=False) as ledger:
        yield from (box.name for box in ledger.boxes.all())
        yield from (run.box.name for run in ledger.runs.all(current=False))


def _runs(ctx: click.Context, spec: str | None) -> Iterable[str]:
    from babysit.acts.here import here_anyway

    place = here_anyway(spec)
    box = ctx.params.get("box")
    if ctx.command.params[0].name == "run":  # [BOX] RUN: the first word may be either
        if box is not None:
            return
        box = ctx.params.get("run")
        if box is None:
            yield from _boxes(ctx, spec)
    if ctx.info_name == "arm":
        yield from (run.name for run in place.spec.runs.values() if box in (None, run.box) or run.box is None)
    with place.ledger(write=False) as ledger:
        yield from (run.name for run in ledger.runs.all(current=False) if box in (None, run.box.name))
