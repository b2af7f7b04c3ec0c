"""What arm, stop and resume print: values to lines, nothing else."""

import textwrap
from collections.abc import Iterator
from typing import Any

from babysit.acts.arm import Armed
from fleet.arming.preflight import BoxReport
from fleet.arming.start import Launched
from fleet.model.run import Run
from fleet.model.spec import BoxSpec
from fleet.model.verdict import Health
from fleet.text.say import size
from fleet.text.untrusted import render_untrusted
from patrol import report

_WIDTH = 80


def step_line(box: BoxSpec, name: str, facts: Any) -> Iterator[str]:
    """The lines that tell a person what arming does, as it does it."""
    match name, facts:
        case "preflight", _:
            yield from _row(box.name, "asking what is there")
        case "intent", (BoxReport() as seen, warned):
            yield from _row("box", _box(seen))
            for warning in warned:
                yield from _row("note", warning)
        case "place", (Run() as run, int() as count, bool() as written):
            how = "sent" if written else "already there"
            yield from _row("ship", f"onbox ({size(count)}) {how}")
            stages = " && ".join(stage.name for stage in run.spec.stages)
            yield from _row("chain", f"{stages}   {run.chain}")
        case "verify", Launched() as launched:
            yield from _row("start", _start(launched))


def _row(label: str, text: str) -> list[str]:
    """What is said of one thing, in lines of at most 80 columns; a word is never cut."""
    return textwrap.wrap(
        render_untrusted(text),
        _WIDTH,
        initial_indent=f"{label:<7} ",
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _start(launched: Launched) -> str:
    match launched.word:
        case "started":
            return f"{launched.detach}, {launched.text}"
        case "already-so":
            return "nothing was started: it was so already"
        case word:
            return f"nothing was started: {word}"


def _box(seen: BoxReport) -> str:
    gpus = "no GPU" if not seen.gpus else f"{len(seen.gpus)}x {seen.gpus[0]}"
    parts = [
        seen.os,
        f"python {seen.python_version}" if seen.python else "no python",
        seen.tmux or "no tmux",
        gpus,
        None if seen.free_bytes is None else f"{size(seen.free_bytes)} free",
        f"clock {seen.skew_s:+.1f} s",
    ]
    return " · ".join(part for part in parts if part)


def armed_lines(done: Armed) -> Iterator[str]:
    """The end of an arm: what is true, and the three commands one needs next."""
    run, verdict = done.run, done.verdict
    if verdict.health in (Health.RUNNING, Health.STARTING, Health.SLOW):
        started = "is running" if done.launched else "was running already"
        yield f"\n{run.run_id} {started} on {run.box.name}."
        yield "It finishes by itself; nothing here needs to stay open."
        yield "Nothing is watching it yet. Choose one:"
        yield f"  {'babysit crontab':<32} a line for cron; you install it"
        yield f"  {f'babysit watch {run.box.name} {run.name}':<32} returns when something happens"
        yield f"  {'babysit patrol --once':<32} asks now, once"
        return
    yield ""
    yield from report.lines((verdict,), verdict.facts_at or verdict.since)
    if done.launched is None:
        yield f"{run.run_id} was so already: nothing was started."


def armed_document(done: Armed) -> dict[str, Any]:
    """The JSON shape of an arm, schema babysit.arm/1."""
    return {
        "schema": "babysit.arm/1",
        "ok": done.verdict.exit_code == 0,
        "exit_code": done.verdict.exit_code,
        "run": done.run.name,
        "id": done.run.run_id,
        "box": done.run.box.name,
        "started": done.launched is not None,
        "detach": done.launched.detach if done.launched else None,
        "health": done.verdict.health,
        "attempt": done.verdict.attempt,
        "next": list(done.verdict.next) or [f"babysit watch {done.run.box.name} {done.run.name}"],
    }
