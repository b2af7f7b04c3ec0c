"""ctl: a command into the queue of a training program on a box."""

import re
from typing import TYPE_CHECKING, Any

import click

from babysit.verbs import speak
from babysit.verbs.patrol import JSON_OPTION, SPEC_OPTION
from babysit.verbs.spans import Span

if TYPE_CHECKING:
    from babysit.acts.ctl import Answered

_DAYS_S = 30 * 86400.0
_NUMBER = re.compile(r"-\.?\d")
_MARK = "\0"  # no word that was typed can hold it


class _Numbers(click.Command):
    """Takes `-0.5` for an argument, as it is no option of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f"{_MARK}{arg}" if _NUMBER.match(arg) else arg for arg in args])


@click.command(cls=_Numbers)
@click.argument("box")
@click.argument("queue")
@click.argument("path")
@click.argument("args", nargs=-1)
@click.option("--run", metavar="RUN", help="Only to a program of this run.")
@click.option("--kwargs", metavar="JSON", help="Named arguments, as a JSON object.")
@click.option("--wait", type=Span(0.1, 3600), default=30.0, metavar="30s", help="For the acknowledgement.")
@click.option("--no-wait", is_flag=True, help="Only put it into the queue.")
@click.option("--expires", type=Span(0.1, _DAYS_S), metavar="1h", help="Not applied when taken later.")
@click.option("--last", type=click.IntRange(0, 1000), metavar="N", help="status: so many acknowledgements.")
@JSON_OPTION
@SPEC_OPTION
def ctl(*, box: str, queue: str, path: str, args: tuple[str, ...], spec: str | None, **options: Any) -> int:
    """Send a command to a training program that polls a queue: a `RuntimeController` of ours, or runtimectl.

    QUEUE is the folder on the box, PATH the name of a control; each ARG is JSON where it is some, else text.
    Without an acknowledgement in time the command is withdrawn, where the program is one of ours.

    \b
      babysit ctl gpu1 /tmp/runtimectl optimizer.lr.multiplier 0.5
      babysit ctl gpu1 /tmp/runtimectl save_ckpt --kwargs '{"label": "manual"}'
      babysit ctl gpu1 /tmp/runtimectl status

    Exit codes: 0 applied on every rank, 22 rejected or failed, 23 the program is gone, 124 no answer in time.
    """  # noqa: D301 - click wants the very character
    from babysit.acts import ctl as act
    from babysit.acts.here import here_anyway
    from fleet.errors import UsageError
    from fleet.steering.queue import STATUS, Order

    given = tuple(arg.removeprefix(_MARK) for arg in args)
    if not queue:  # of a variable that is not set: the home folder must not become a queue
        raise UsageError(
            "QUEUE is empty: it is a folder on the box", where="ctl", next=("babysit ctl --help",)
        )
    place = here_anyway(spec)
    if path == STATUS and not given and options["kwargs"] is None:
        if options["run"] is not None:
            raise UsageError("--run means nothing to status", where=path, next=("babysit ctl --help",))
        last = 10 if options["last"] is None else options["last"]
        return _show(act.status(place, box, queue, last), box, queue, as_json=options["as_json"])
    if options["last"] is not None:
        raise UsageError("--last belongs to status", where=path, next=(f"babysit ctl {box} {queue} status",))
    wanted = Order(
        queue,
        path,
        given,
        options["kwargs"],
        wait_s=None if options["no_wait"] else options["wait"],
        expires_s=options["expires"],
    )
    return _show(act.order(place, box, wanted, run=options["run"]), box, queue, as_json=options["as_json"])


def _show(done: "Answered", box: str, folder: str, *, as_json: bool) -> int:
    from fleet.steering import queue
    from fleet.text.untrusted import render_untrusted

    found = done.found
    if as_json:
        content = queue.document(found, box=box, queue=folder, took_s=done.took_s)
        speak.document(content)
        return int(content["exit_code"])
    if done.shipped:
        speak.note(f"babysit: the tool was sent to {box} first")
    if isinstance(found, queue.State):
        for line in queue.state_lines(found):
            speak.prose(line)
        return 0
    for line in found.complaints:
        speak.prose(f"babysit: {box}: {render_untrusted(line)}", beside=True)
    for line in queue.outcome_lines(found, done.took_s):
        speak.prose(line, beside=found.exit_code != 0)
    return found.exit_code
