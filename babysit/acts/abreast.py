"""The same for many boxes side by side, none of which can hold up the others."""

import queue
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from fleet import clock

Wanted = TypeVar("Wanted")
Found = TypeVar("Found")

_SIDE_BY_SIDE = 32


def abreast(
    wanted: Mapping[str, Wanted], act: Callable[[Wanted], Found], *, limit_s: float
) -> dict[str, Found]:
    """What `act` returned for each, by name; who is not ready within `limit_s` is left out.

    The threads are daemons: one that hangs in a system call costs its caller the limit and nothing more.
    Raises what `act` raised.
    """
    waiting: queue.SimpleQueue[tuple[str, Wanted]] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[str, Found | BaseException]] = queue.SimpleQueue()
    for each in wanted.items():
        waiting.put(each)
    deadline = clock.monotonic() + limit_s

    def work() -> None:
        while clock.monotonic() < deadline:
            try:
                name, what = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                answers.put((name, act(what)))
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread and raised there
                answers.put((name, error))

    for _ in range(min(_SIDE_BY_SIDE, len(wanted))):
        threading.Thread(target=work, daemon=True, name="visit").start()
    found: dict[str, Found] = {}
    while len(found) < len(wanted):
        try:
            name, answer = answers.get(timeout=max(0.0, deadline - clock.monotonic()))
        except queue.Empty:
            break
        if isinstance(answer, BaseException):
            raise answer
        found[name] = answer
    return found
