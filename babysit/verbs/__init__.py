"""The commands: one file a group of verbs. Each parses, calls one act, prints, and returns an exit code."""

from copy import copy
from importlib import import_module
from typing import Any, Literal, NamedTuple

import click

# What `babysit --help` lists, without importing a single act: name -> (module, one line).
VERBS: dict[str, tuple[str, str]] = {
    "arm": ("arm", "Start a job on a box so that it finishes by itself."),
    "patrol": ("patrol", "Ask every box once and say how each run is."),
    "status": ("patrol", "Show what the last tick knew, without asking any box."),
    "watch": ("watch", "Wait for one run's end or trouble; always returns."),
    "logs": ("logs", "Show the end of a run's log."),
    "results": ("logs", "Print a run's result files as the job wrote them."),
    "usage": ("usage", "Show what a watched run used: CPU, memory, GPU, disk."),
    "resume": ("resume", "Say what is true and the one next command; --yes does it."),
    "stop": ("stop", "End a run: TERM, a grace, then KILL."),
    "disarm": ("disarm", "Stop watching a run; on its box it goes on."),
    "attach": ("attach", "Look into a run's tmux window, with your own ssh."),
    "gc": ("gc", "List what old runs left on a box; --yes removes it."),
    "handbook": ("logs", "Print the page from which anyone can take over a run."),
    "crontab": ("patrol", "Print the line that lets cron do the patrol."),
    "completion": ("completion", "Print the script that completes names in your shell."),
    "trust": ("trust", "Confirm a box's host key."),
    "ipc": ("ipc", "Ask and steer the loops that run on a box."),
    "ctl": ("ctl", "Send a command to a training program's queue on a box."),
    "check": ("check", "Is the ledger sound? --repair rebuilds a damaged one."),
    "doctor": ("doctor", "Check this set-up, and a box; each line with its fix."),
    "init": ("init", "Write a commented babysit.toml and test its box."),
    "explain": ("explain", "Say what a row, a code or a word means, offline."),
    "skill": ("skill", "Write the Agent Skill for a coding agent into a project."),
}


# The verbs of `ipc` that change no loop, as fleet.steering has them: --help imports nothing of that.
_LOOKS = ("list", "peek", "tail", "plot", "memory", "stack", "notify")


class Capability(NamedTuple):
    """What a verb may do, and with which of its options only; without one of them it `observes`.

    So it does with one of `not_with`, and with a verb of its own that is one of `looks`.
    `reads`: what is known here, the ledger opened for reading. `observes`: asks boxes, keeps what it saw.
    `writes`: a file of the project. `acts`: changes a box, a run or whom we trust. `ends`: ends or forgets
    something for good, so that it needs a yes. What acts or ends leaves lines in the audit log.
    """

    does: Literal["reads", "observes", "writes", "acts", "ends"]
    only_with: tuple[str, ...] = ()
    not_with: tuple[str, ...] = ()
    looks: tuple[str, ...] = ()


CAPABILITIES: dict[str, Capability] = {
    "arm": Capability("acts", not_with=("--dry-run",)),
    "patrol": Capability("observes"),
    "status": Capability("reads"),
    "watch": Capability("observes"),
    "logs": Capability("observes"),
    "results": Capability("observes"),
    "usage": Capability("observes"),
    "resume": Capability("acts", only_with=("--yes", "--at")),
    "stop": Capability("ends"),
    "disarm": Capability("acts"),
    "gc": Capability("ends", only_with=("--yes",)),
    "attach": Capability("acts", only_with=("--write",)),
    "handbook": Capability("reads"),
    "crontab": Capability("acts", only_with=("--install", "--remove")),
    "completion": Capability("reads"),
    "trust": Capability("acts"),
    "ipc": Capability("acts", looks=_LOOKS),
    "ctl": Capability("acts", looks=("status",)),
    "check": Capability("acts", only_with=("--repair",)),
    "doctor": Capability("observes"),
    "init": Capability("acts"),
    "explain": Capability("reads"),
    "skill": Capability("writes"),
}


class _Lazy(click.Group):
    """A group that imports a verb's module only when that verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context | None, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"babysit.verbs.{VERBS[cmd_name][0]}"), cmd_name)
        if ctx is not None and ctx.resilient_parsing:  # a shell asks what could come next
            from babysit.verbs.completion import knows_names

            knows_names(command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """The verbs and options that begin so; no verb's module is imported for it."""
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(name, help=line) for name, (_, line) in VERBS.items()]
        found = [verb for verb in verbs if verb.value.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from fleet.spec.decode import meant

            close = meant(args[0], VERBS)
            hint = f" Did you mean {close}?" if close else ""
            ctx.fail(f"no command {args[0]!r}.{hint}")
        name, command, rest = super().resolve_command(ctx, args)
        # The one place through which every verb is called. One without a capability counts as one that acts.
        does = CAPABILITIES.get(name or "", Capability("acts"))
        if command is not None and does.does in ("acts", "ends"):
            from babysit.verbs.audited import audited

            command = copy(command)
            command.callback = audited(command, does.only_with, does.not_with, does.looks)
        return name, command, rest


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
