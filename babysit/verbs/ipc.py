"""ipc: ask and steer the loops that run on a box."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from babysit.verbs import speak
from babysit.verbs.patrol import SPEC_OPTION
from babysit.verbs.spans import Span
from fleet.steering.question import VERBS

if TYPE_CHECKING:
    from babysit.acts.here import Here
    from babysit.acts.ipc import Asked
    from babysit.acts.loop_watch import Over
    from fleet.steering.question import Question

_WAIT_S = 10.0
_DAY_S = 86400.0
_MONTH_S = 30 * _DAY_S


@click.command()
@click.argument("box")
@click.argument("verb", type=click.Choice(list(VERBS)))
@click.argument("words", nargs=-1, metavar="[TARGET] [KEY=VALUE|EXPR]")
@click.option("--run", metavar="RUN", help="Only loops of this run.")
@click.option(
    "--wait", type=Span(0.1, 600), default=_WAIT_S, metavar="10s", help="How long an answer may take."
)
@click.option("--yes", is_flag=True, help="Do it without a terminal.")
@click.option("--alone", is_flag=True, help="break, continue: also a part of a group of ranks.")
@click.option("--group", type=click.IntRange(1), metavar="PPID", help="list: those of one parent only.")
@click.option("--last", type=click.IntRange(0), default=0, metavar="K", help="plot: the last K points.")
@click.option("--png", type=click.Path(dir_okay=False), help="plot: into this file.")
@click.option("--html", type=click.Path(dir_okay=False), help="plot: one page, into this file.")
@click.option("--interval", type=Span(0.2, 3600), metavar="2s", help="tail, notify: between two looks.")
@click.option(
    "--for", "for_", type=Span(1, _MONTH_S), metavar="1d", help="notify, tail: leave then; notify: 1d."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout; tail: one a line.")
@SPEC_OPTION
def ipc(*, box: str, verb: str, words: tuple[str, ...], spec: str | None, **options: Any) -> int:
    """Ask and steer the loops on a box: `ipc_range` of onbox.loop, or loopmonitor's own.

    TARGET is a pid, a glob on the label, a parent's pid, `all`, or PID/N for an inner loop. It may be left
    out where the box has one loop, or with --run. One short connection a question.

    \b
      babysit ipc gpu1 peek
      babysit ipc gpu1 set lr=0.0001
      babysit ipc gpu1 notify "loss < 0.1" --for 12h

    Exit codes: 0 answered or met, 3 no such loop, 22 refused by the loop, 23 it died while we waited, 124 no
    answer in time.
    """  # noqa: D301 - click wants the very character
    from babysit.acts.here import here, here_anyway
    from fleet.steering.question import Question, parted

    target, argument = parted(verb, words)
    _only_where_they_count(verb, options)
    if VERBS[verb].by_yes and not options["yes"] and not speak.at_a_terminal():
        _needs_a_yes(box, verb, words, {**options, "spec": spec})
    flags = ["--alone"] if options["alone"] else []
    flags += ["--group", str(options["group"])] if options["group"] else []
    flags += ["--last", str(options["last"])] if options["last"] else []
    question = Question(verb, target, argument, tuple(flags), wait_s=options["wait"])
    # Whoever waits for a notice must hear now that its targets cannot be read, not when it is due.
    place = here(spec) if verb == "notify" else here_anyway(spec)
    if verb in ("tail", "notify"):
        return _watch(place, box, question, options)
    from babysit.acts.ipc import ask

    asked = ask(place, box, question, run=options["run"])
    if verb == "plot" and asked.said.exit_code == 0:
        return _plot(asked, options)
    return _show(asked, as_json=options["as_json"])


# Options that only some verbs have; elsewhere they would be passed over in silence.
_OF: dict[str, tuple[str, ...]] = {
    "yes": ("break", "continue", "pause", "resume", "set", "checkpoint", "clean"),
    "alone": ("break", "continue"),
    "group": ("list",),
    "last": ("plot",),
    "png": ("plot",),
    "html": ("plot",),
    "interval": ("tail", "notify"),
    "for_": ("tail", "notify"),
}


def _only_where_they_count(verb: str, options: dict[str, Any]) -> None:
    from fleet.errors import UsageError

    for name, verbs in _OF.items():
        if options[name] and verb not in verbs:
            raise UsageError(
                f"--{name.strip('_')} means nothing to {verb}", where=verb, next=("babysit ipc --help",)
            )
    if VERBS[verb].untargeted and options["run"]:
        raise UsageError(f"--run means nothing to {verb}", where=verb, next=("babysit ipc --help",))


def _needs_a_yes(box: str, verb: str, words: tuple[str, ...], options: dict[str, Any]) -> None:
    from fleet.errors import NeedsApproval
    from fleet.text.quote import sh

    # Whatever was typed to say which loops are meant, and how, stands in the next command too.
    given = ["--run", options["run"]] if options["run"] is not None else []
    given += ["--alone"] if options["alone"] else []
    given += ["--wait", f"{options['wait']:g}s"] if options["wait"] != _WAIT_S else []
    given += ["--spec", options["spec"]] if options["spec"] is not None else []
    typed = " ".join(sh(word) for word in (box, verb, *words, *given))
    raise NeedsApproval(
        f"{verb} stops a loop on {box}: without a terminal it needs a yes",
        where=box,
        next=(f"babysit ipc {typed} --yes",),
    )


def _show(asked: "Asked", *, as_json: bool) -> int:
    """Print an answer; returns its exit code."""
    from fleet.steering import says

    verb, found = asked.said.verb, asked.said
    if as_json:
        speak.document(says.document(found, box=asked.box, runs=asked.runs, took_s=asked.took_s))
        return found.exit_code
    if asked.shipped:
        speak.note(f"babysit: the tool was sent to {asked.box} first")
    for part in found.answers:
        for line in says.lines(verb, part, asked.took_s):
            if verb == "stack":
                speak.line(line)
            else:
                speak.prose(line, beside=part.exit_code != 0)
    if not found.answers and found.exit_code == 0:
        speak.line(says.NOTHING.get(verb, "no loop answered"))
    _complain(asked)
    return found.exit_code


def _complain(asked: "Asked") -> None:
    from fleet.steering import says
    from fleet.steering.answers import next_of

    for line in says.error_lines(asked.said):
        speak.prose(f"babysit: {asked.box}: {line}", beside=True)
    for command in next_of(asked.said, asked.box):
        speak.note(f"next: {command}")


def _plot(asked: "Asked", options: dict[str, Any]) -> int:
    from datetime import datetime

    from fleet import clock
    from fleet.steering import charts

    parts = asked.said.answers
    series = charts.series_of(parts)
    at = datetime.fromtimestamp(clock.now()).astimezone().isoformat(" ", "seconds")
    say = speak.note if options["as_json"] else speak.line
    if options["png"]:
        _written(Path(options["png"]), charts.as_png(series), say)
    if options["html"]:
        _written(Path(options["html"]), charts.as_page(series, parts, box=asked.box, at=at).encode(), say)
    if options["as_json"]:
        return _show(asked, as_json=True)
    if not (options["png"] or options["html"]):
        drawn = charts.as_text(series, speak.width(), ascii_only=not speak.takes_unicode())
        for line in drawn.rstrip("\n").split("\n"):
            speak.line(line)
    return 0


def _written(path: Path, content: bytes, say: Callable[[str], None]) -> None:
    from fleet.errors import UsageError
    from fleet.text.untrusted import render_untrusted

    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", where=str(path)) from None
    say(f"written: {render_untrusted(str(path))}")


def _watch(place: "Here", box: str, question: "Question", options: dict[str, Any]) -> int:
    """Rounds on the box until the loop of a tail is over, or a condition holds or cannot any more."""
    from babysit.acts.loop_watch import LoopWatch
    from fleet.text.untrusted import render_untrusted

    tails = question.verb == "tail"
    watch = LoopWatch(
        place,
        box,
        question,
        run=options["run"],
        show=lambda asked: _look(asked, tails=tails, as_json=options["as_json"]),
        say=lambda text: speak.prose(f"babysit: {render_untrusted(text)}", beside=True),
    )
    interval_s = options["interval"] or (2.0 if tails else 5.0)
    try:
        for_s = options["for_"]
        over = watch.tail(for_s, interval_s) if tails else watch.until_met(for_s or _DAY_S, interval_s)
    except KeyboardInterrupt:
        speak.note(f"babysit: no longer looking; on {box} the loop goes on")
        raise
    told = None if tails else _told(place, box, question, over)
    _say_over(question.verb, box, over, told, as_json=options["as_json"])
    return over.exit_code


def _look(asked: "Asked", *, tails: bool, as_json: bool) -> None:
    """Every look of a tail as it comes; of a wait only what went wrong."""
    from fleet.steering import says

    for look in asked.looks if tails else ():
        if as_json:
            speak.document(says.document(look, box=asked.box, runs=asked.runs, took_s=asked.took_s))
            continue
        for part in look.answers:
            speak.line(says.lines("peek", part, asked.took_s)[0])
    if asked.said.error is not None and not as_json:
        _complain(asked)


def _told(place: "Here", box: str, question: "Question", over: "Over") -> int | None:
    """How many targets were told; None where there was nothing to tell."""
    from babysit.acts.ipc import run_id_of
    from babysit.acts.loop_notice import tell

    if over.exit_code not in (0, 23):
        return None
    run_id = run_id_of(place, over.last)
    condition, met = question.argument or "", over.exit_code == 0
    return tell(place, box=box, run_id=run_id, condition=condition, met=met, says=over.says)


def _say_over(verb: str, box: str, over: "Over", told: int | None, *, as_json: bool) -> None:
    from fleet.steering import says
    from fleet.text.untrusted import render_untrusted

    if as_json:
        content = says.ended_document(over.exit_code, over.says, verb=verb, box=box)
        speak.document(content if verb == "tail" else {**content, "targets_told": told or 0})
        return
    if over.says:
        speak.prose(render_untrusted(over.says), beside=over.exit_code != 0)
    if told == 0:
        speak.note("babysit: there is no [notify.NAME] in babysit.toml: it was said here only")
