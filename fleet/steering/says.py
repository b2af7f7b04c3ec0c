"""What loops answered, in words for a person and as one document for programs. Pure.

Every text of the box goes through render_untrusted; in a document it stands only in `untrusted_` fields.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fleet.model.run import Run
from fleet.steering.answers import MET, Part, Said, next_of, run_of
from fleet.steering.question import VERBS
from fleet.text.say import duration, size
from fleet.text.untrusted import render_untrusted

SCHEMA = "babysit.ipc/1"
_LABEL_CHARS = 60
_VALUE_CHARS = 60
_VALUES_SHOWN = 8
_FRAMES_SHOWN = 40
_THREADS_SHOWN = 200
_DEPTH = 12
_TO_THE_MINUTE = 16  # characters of ISO 8601
NOTHING = {"list": "no loops are registered", "clean": "nothing to clean"}
_MINUTE_S, _HOUR_S = 60, 3600


def name_of(part: Part) -> str:
    """`train (pid 44201)`; an inner loop with its number."""
    inner = f"/{part.n}" if part.n > 1 else ""
    label = render_untrusted(part.label, _LABEL_CHARS)
    return f"{label} (pid {part.pid}{inner})" if label else f"pid {part.pid}{inner}"


def lines(verb: str, part: Part, took_s: float) -> list[str]:
    """One loop's answer to `verb`: what it says first, details below it, indented."""
    says = render_untrusted(part.says)
    if part.exit_code != MET:
        return [f"{name_of(part)}: {says}", *_last_known(verb, part)]
    shown = _SHOWN.get(verb)
    found = list(shown(part, took_s)) if shown is not None and part.reply is not None else []
    return found or [f"{name_of(part)}: {says}{'' if part.confirmed else ' (not confirmed)'}"]


def error_lines(said: Said) -> Iterator[str]:
    """Why a command did nothing at all."""
    if said.error is not None:
        yield render_untrusted(said.error.what)
        if said.error.next and not next_of(said, ""):
            yield f"on the box: {render_untrusted(said.error.next)}"


def document(said: Said, *, box: str, runs: Mapping[str, Run], took_s: float) -> dict[str, Any]:
    """The whole answer, schema babysit.ipc/1. `runs` are those known here, by tag."""
    error = said.error
    return {
        "schema": SCHEMA,
        "ok": said.exit_code == MET,
        "exit_code": said.exit_code,
        "box": box,
        "verb": said.verb if said.verb in VERBS else None,
        "took_s": round(took_s, 3),
        "answers": [_part(part, runs) for part in said.answers],
        "untrusted_error": error
        and {
            "code": render_untrusted(error.code),
            "what": render_untrusted(error.what),
            "next": render_untrusted(error.next),
        },
        "next": list(next_of(said, box)),
    }


def ended_document(exit_code: int, says: str, *, verb: str, box: str) -> dict[str, Any]:
    """How a tail or a wait ended, schema babysit.ipc/1: the last document of its output."""
    return {
        "schema": SCHEMA,
        "ok": exit_code == MET,
        "exit_code": exit_code,
        "box": box,
        "verb": verb,
        "answers": [],
        "ended": True,
        "untrusted_says": render_untrusted(says),
    }


def harmless(value: Any, depth: int = _DEPTH) -> Any:
    """`value` of a box with every text in it made harmless; numbers stay numbers."""
    if isinstance(value, str):
        return render_untrusted(value)
    if isinstance(value, dict | list | tuple) and depth == 0:
        return "…"
    if isinstance(value, dict):
        return {render_untrusted(key): harmless(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(item, depth - 1) for item in value]
    return value


def progress(part: Part) -> str:
    """`iter 3421/10000 (34.2 %) · 8 min 37 s, ETA 16 min 35 s · loss 0.3847`; empty without a state."""
    state = (part.reply or {}).get("state")
    if not isinstance(state, dict):
        return ""
    count, total = _number(state.get("iteration")), _number(state.get("total"))
    steps = "iter ?" if count is None else f"iter {count:.0f}"
    if count is not None and total:
        steps += f"/{total:.0f} ({100 * count / total:.1f} %)"
    elapsed, eta = _number(state.get("elapsed_sec")), _number(state.get("eta_sec"))
    times = [text for text in (span(elapsed), f"ETA {span(eta)}" if eta is not None else "") if text]
    tracked = state.get("tracked")
    values = list(tracked.items()) if isinstance(tracked, dict) else []
    more = [f"{len(values) - _VALUES_SHOWN} more"] if len(values) > _VALUES_SHOWN else []
    faults = _number(state.get("faults"))
    return " · ".join(
        [
            steps,
            *([", ".join(times)] if times else []),
            *(f"{render_untrusted(key, 40)} {_quoted(value)}" for key, value in values[:_VALUES_SHOWN]),
            *more,
            *([f"{faults:.0f} faults survived"] if faults else []),
        ]
    )


def value_text(value: Any) -> str:
    """A tracked value in a few words; of a list its length and its last value."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return str(value) if isinstance(value, int) else f"{value:.6g}"
    if isinstance(value, list):
        last = f", last {value_text(value[-1])}" if value and not isinstance(value[-1], list) else ""
        return f"[{len(value)} values{last}]"
    if isinstance(value, dict):
        return f"{{{len(value)} keys}}"
    return render_untrusted(str(value), _VALUE_CHARS)


def _quoted(value: Any) -> str:
    return f'"{value_text(value)}"' if isinstance(value, str) else value_text(value)


def span(seconds: float | None) -> str:
    """`8 min 37 s`; from an hour on without seconds; empty for None."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if not _MINUTE_S <= whole < _HOUR_S or whole % _MINUTE_S == 0:
        return duration(whole)
    return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _list(part: Part, took_s: float) -> Iterator[str]:  # noqa: ARG001 - one signature for all
    reply = part.reply or {}
    since, world = reply.get("start_time"), _number(reply.get("world"))
    pieces = [render_untrusted(part.says)]
    if isinstance(since, str) and since:
        pieces.append(f"since {render_untrusted(since[:_TO_THE_MINUTE]).replace('T', ' ')} UTC")
    pieces += [f"rank {value_text(reply.get('rank'))} of {world:.0f}"] if world and world > 1 else []
    pieces += [f"run {render_untrusted(part.tag.partition('/')[0], 80)}"] if part.tag else []
    yield f"{name_of(part)}  {' · '.join(pieces)}"


def _peek(part: Part, took_s: float) -> Iterator[str]:  # noqa: ARG001 - as above
    shown = progress(part)
    if shown:
        yield f"{name_of(part)}  {shown}"
        if (part.reply or {}).get("paused") is True:
            yield f"  {render_untrusted(part.says)}"


def _set(part: Part, took_s: float) -> Iterator[str]:
    reply = part.reply or {}
    key, value, at = (value_text(reply.get(word)) for word in ("key", "value", "iteration"))
    if part.confirmed:
        yield f"{name_of(part)}: set {key} = {value}, applied at iteration {at} ({took_s:.1f} s)"


def _stack(part: Part, took_s: float) -> Iterator[str]:  # noqa: ARG001 - as above
    threads = (part.reply or {}).get("threads")
    yield f"{name_of(part)}: {render_untrusted(part.says)}"
    threads = threads if isinstance(threads, list) else []
    if len(threads) > _THREADS_SHOWN:
        yield f"  {len(threads) - _THREADS_SHOWN} more threads"
    for thread in threads[:_THREADS_SHOWN]:
        if not isinstance(thread, dict):
            continue
        frames = thread.get("frames")
        frames = [frame for frame in frames if isinstance(frame, dict)] if isinstance(frames, list) else []
        yield f"  {value_text(thread.get('name'))}{' (main)' if thread.get('main') is True else ''}"
        if len(frames) > _FRAMES_SHOWN:
            yield f"    {len(frames) - _FRAMES_SHOWN} outer frames left out"
        for frame in frames[-_FRAMES_SHOWN:]:
            where = f"{_text(frame, 'file', 300)}:{value_text(frame.get('line'))}"
            yield f"    {where} in {_text(frame, 'function', 100)}"
            if frame.get("code"):
                yield f"      {_text(frame, 'code', 200)}"


def _text(frame: Mapping[str, Any], key: str, most: int) -> str:
    return render_untrusted(str(frame.get(key)), most)


def _memory(part: Part, took_s: float) -> Iterator[str]:  # noqa: ARG001 - as above
    reply = part.reply or {}
    now, peak = _number(reply.get("rss_bytes")), _number(reply.get("peak_bytes"))
    if now is not None:
        most = f", {size(peak)} at its peak" if peak is not None else ""
        yield f"{name_of(part)}: {size(now)} now{most}"


def _last_known(verb: str, part: Part) -> Iterator[str]:
    """What was known of a loop that did not answer a peek."""
    if verb == "peek" and progress(part):
        yield f"  last known: {progress(part)}"


_SHOWN: dict[str, Callable[[Part, float], Iterator[str]]] = {
    "list": _list,
    "peek": _peek,
    "set": _set,
    "stack": _stack,
    "memory": _memory,
}


def _part(part: Part, runs: Mapping[str, Run]) -> dict[str, Any]:
    run = run_of(part, runs)
    return {
        "pid": part.pid,
        "n": part.n,
        "kind": part.kind if part.kind in ("onbox", "loopmonitor", "R") else None,
        "exit_code": part.exit_code,
        "confirmed": part.confirmed,
        "run": run.name if run else None,
        "untrusted_label": render_untrusted(part.label),
        "untrusted_tag": None if part.tag is None else render_untrusted(part.tag),
        "untrusted_says": render_untrusted(part.says),
        "untrusted_reply": harmless(part.reply),
    }
