"""What arm, stop and resume print: values to lines, nothing else."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from babysit.acts.arm import Armed
from babysit.acts.rehearse import Rehearsal
from fleet.arming.code import code_remarks, code_says
from fleet.arming.place import Linked
from fleet.arming.preflight import BoxReport
from fleet.arming.start import Launched
from fleet.model.run import Code, Run
from fleet.model.spec import BoxSpec
from fleet.model.verdict import Health
from fleet.text.say import size
from fleet.text.untrusted import decode, render_untrusted
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
        case "ipc", Linked() as linked:
            yield from _row("ipc", _linked(linked))
        case "handbook", Run(code=Code() as code):
            yield from _code(code)


def _linked(linked: Linked) -> str:
    match linked.word:
        case "made" | "there":
            return f"{linked.at} steers loops on the box"
        case "taken":
            return f"{linked.at} is something else and was left as it is"
        case "":
            return f"{linked.at} steers loops there; from here: babysit ipc"
    return f"no link at {linked.at}: {linked.why or linked.word}"


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


def _code(code: Code) -> Iterator[str]:
    yield from _row("code", code_says(code))
    for remark in code_remarks(code):
        yield from _row("note", remark)


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


def armed_lines(done: Armed, patrols: Sequence[str]) -> Iterator[str]:
    """The end of an arm: what is true, and what watches, or the three commands one needs next."""
    run, verdict = done.run, done.verdict
    if done.news is not None and done.news.changed:
        yield from _row("code", f"not as it began: {'; '.join(done.news.says)}")
    if done.watched:
        yield from _row("monitor", f"{', '.join(done.watched)}; babysit usage {run.box.name} {run.name}")
    if done.unwatched:
        was = f"not watched: {', '.join(done.unwatched)}; this run was armed without, --again makes a new one"
        yield from _row("monitor", was)
    if done.unlisted is not None:
        now, was = (each or "the usual folder" for each in (done.unlisted, run.box.loops))
        says = f"listed in {was}, as this run was armed, not in {now}; --again makes a new one"
        yield from _row("loops", says)
    if verdict.health in (Health.RUNNING, Health.STARTING, Health.SLOW):
        started = "is running" if done.launched else "was running already"
        yield f"\n{run.run_id} {started} on {run.box.name}."
        yield "It finishes by itself; nothing here needs to stay open."
        if patrols:
            yield f"Watching: {'; '.join(patrols)}."
            return
        yield "Nothing is watching it yet. Choose one:"
        yield f"  {'babysit crontab':<32} a line for cron; you install it"
        yield f"  {f'babysit watch {run.box.name} {run.name}':<32} returns when something happens"
        yield f"  {'babysit patrol --every 30m':<32} from this terminal; dies with it"
        return
    yield ""
    shown = report.lines((verdict,), verdict.facts_at or verdict.since)
    yield from shown
    if done.launched is None:
        yield f"{run.run_id} was so already: nothing was started."
    for command in verdict.next:
        if not any(command in line for line in shown):
            yield f"next: {command}"


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
        "code": _code_document(done.run.code),
        "watched": list(done.watched),
        "untrusted_code_changes": list(done.news.says) if done.news and done.news.changed else [],
        "next": list(done.verdict.next) or [f"babysit watch {done.run.box.name} {done.run.name}"],
    }


def _code_document(code: Code | None) -> dict[str, Any] | None:
    """What is known of the code that the newest attempt runs; names of files may be the box's."""
    if code is None:
        return None
    return {
        "attempt": code.attempt,
        "git": code.commit,
        "dirty": code.dirty,
        "hasher": code.hasher,
        "untrusted_files": [
            {"path": file.path, "digest": file.digest, "why": file.why} for file in code.files
        ],
        "left_out": code.left_out,
    }


def rehearsed_lines(found: Rehearsal) -> Iterator[str]:
    """What an arm would do: the facts in rows, then every file as it would be placed, to the letter."""
    run, box = found.run, found.run.box.name
    yield f"Dry run: nothing is written or started, neither here nor on {box}."
    yield from _row("box", _box(found.report))
    for warning in found.warnings:
        yield from _row("note", warning)
    if found.report.code is not None:
        yield from _code(found.report.code)
    yield render_untrusted(f"remote  {found.remote_command}")
    if not found.files:
        yield from _row("run", f"{run.run_id} has the name, with this very job: nothing would be placed")
        yield render_untrusted(f"start   {found.start}   (the box says `already-so` if it ever began)")
        return
    sent = "already there" if found.sends is None else f"{size(found.sends)}, would be sent"
    yield render_untrusted(f"tool    {found.tool}   ({sent})")
    yield render_untrusted(f"folder  {found.folder}   (its id is drawn anew each time)")
    how = f"in tmux session babysit-{run.run_id}" if found.report.tmux else "detached by setsid"
    yield render_untrusted(f"start   {found.start}   ({how})")
    for path, content in found.files.items():
        yield f"==> {path} <=="
        yield from map(render_untrusted, decode(content).splitlines())


def rehearsed_document(found: Rehearsal) -> dict[str, Any]:
    """The same for programs, schema babysit.arm/1; `files` are empty where nothing would be placed."""
    return {
        "schema": "babysit.arm/1",
        "ok": True,
        "exit_code": 0,
        "dry_run": True,
        "run": found.run.name,
        "id": found.run.run_id,
        "box": found.run.box.name,
        "started": False,
        "remote_command": found.remote_command,
        "untrusted_folder": found.folder,
        "untrusted_start": found.start,
        "untrusted_files": {path: decode(content) for path, content in found.files.items()},
        "code": _code_document(found.report.code),
        "watched": [stage.name for stage in found.run.spec.stages if stage.monitor and found.report.python],
        "next": [f"babysit arm {found.run.box.name} {found.run.name}"],
    }
