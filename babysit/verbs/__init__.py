"""The commands: one file a group of verbs. Each parses, calls one act, prints, and returns an exit code."""

from importlib import import_module
from typing import Any

import click

# What `babysit --help` lists, without importing a single act: name -> (module, one line).
VERBS: dict[str, tuple[str, str]] = {
    "arm": ("arm", "Start a job on a box so that it finishes by itself."),
    "patrol": ("patrol", "Ask every box once and say how each run is."),
    "status": ("patrol", "Show what the last tick knew, without asking any box."),
    "watch": ("watch", "Wait for one run's end or trouble; always returns."),
    "logs": ("logs", "Show the end of a run's log."),
    "results": ("logs", "Print a run's result files as the job wrote them."),
    "resume": ("resume", "Say what is true and the one next command; --yes does it."),
    "stop": ("stop", "End a run: TERM, a grace, then KILL."),
    "handbook": ("logs", "Print the page from which anyone can take over a run."),
    "crontab": ("patrol", "Print the line that lets cron do the patrol."),
    "trust": ("trust", "Confirm a box's host key."),
}


class _Lazy(click.Group):
    """A group that imports a verb's module only when that verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"babysit.verbs.{VERBS[cmd_name][0]}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from fleet.spec.decode import meant

            close = meant(args[0], VERBS)
            hint = f" Did you mean {close}?" if close else ""
            ctx.fail(f"no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Exit codes: 0 fine, 2 usage or spec, 3 not found, 4 auth or host key, 10 needs attention, "
    "11 unreachable, 12 unknown, 20 a run failed, 75 busy, 124 the wait ran out. All: docs/exit-codes.md",
)
@click.version_option(package_name="babysit", message="babysit %(version)s")
def cli(**_: Any) -> None:
    """Babysit long jobs on rented GPU boxes over plain SSH.

    \b
      babysit arm gpu1 train -- python train.py    start it; close the laptop
      babysit patrol --once                        how is everything?
      babysit resume                               someone new takes over here
    """  # noqa: D301 - click wants the very character
