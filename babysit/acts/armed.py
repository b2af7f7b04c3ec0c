"""What watches: only triggers that were seen to fire, and waiters whose process is proven to live."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Patroller
from fleet.text.say import ago, duration
from sentinels.lease import alive

CRON_MINUTES = (3, 33)
# Two slots missed and a little: what did not fire by then is not armed, whatever a crontab says.
_CRON_EVERY_S = 30 * 60
_CRON_SEEN_S = 2 * _CRON_EVERY_S + 300
_OVERDUE_S = 300  # a patroller that lives but did not fire for so long is stopped, or hangs
_CRON_FORGOTTEN_S = 7 * 86400  # a cron line that was taken out long ago is no news


class Trigger(Struct, frozen=True):
    """One thing that watches. `says` is its phrase: `cron 03:33, last fired 22 min ago`.

    `until` says what it does not outlive. `run_id` is the one run that it watches, None for all of them.
    """

    says: str
    until: str
    run_id: str | None = None


_CRON_UNTIL = "not while this machine is off"
_TERMINAL_UNTIL = "ends with its terminal"


def triggers(ledger: Ledger, now: float, *, besides: int | None = None) -> tuple[Trigger, ...]:
    """What is armed; empty when nothing watches.

    `besides` is the pid of a waiter that is about to leave.
    """
    watches = (
        Trigger(f"watch of {waiter.run_id}, pid {pid}", _TERMINAL_UNTIL, waiter.run_id)
        for waiter in ledger.waiters.all()
        if (pid := waiter.identity.partition(" ")[0]) != str(besides)
        if alive(waiter.identity) and waiter.deadline > now
    )
    return (*patrols(ledger, now), *watches)


def phrases(fires: Sequence[Trigger], run_id: str | None = None) -> tuple[str, ...]:
    """What each of `fires` says; with a run only those that watch it, not who waits for another one."""
    return tuple(fire.says for fire in fires if run_id is None or fire.run_id in (None, run_id))


def legs(fires: Sequence[Trigger]) -> tuple[str, str]:
    """What is sure without us, and what is not: who finishes the runs, and who tells of them, until when."""
    watching = " · ".join(f"{fire.says}; {fire.until}" for fire in fires) or "nothing (babysit crontab)"
    return (
        "Each run finishes by itself on its box, whatever becomes of this machine.",
        f"Watching from here: {watching}.",
    )


def patrols(ledger: Ledger, now: float) -> tuple[Trigger, ...]:
    """What looks at every run; empty when nothing does, whoever waits for single ones."""
    last = next(iter(ledger.ticks.seen("cron", 1)), None)
    fires = []
    if last is not None and now - last.at < _CRON_SEEN_S:
        fires.append(Trigger(f"cron {next_cron(now)}, last fired {ago(now - last.at)}", _CRON_UNTIL))
    fires += [
        Trigger(_patroller(known), _TERMINAL_UNTIL)
        for known in ledger.patrollers.all()
        if alive(known.identity) and now < known.next_at + _OVERDUE_S
    ]
    return tuple(fires)


def dead_patrols(ledger: Ledger, now: float) -> tuple[tuple[Patroller, str], ...]:
    """Those that patrolled here and whose process is gone without a farewell, each with a sentence.

    It ends with the command that starts it again.
    """
    found = []
    for known in ledger.patrollers.all():
        if not alive(known.identity):
            again = f"patrol --every {_typed(known.every_s)}"
            pid = known.identity.partition(" ")[0]
            due = f", due {ago(now - known.next_at)}" if known.next_at < now else ""
            says = f"{again} (pid {pid}): gone, started {ago(now - known.at)}{due}; again: babysit {again}"
            found.append((known, says))
    return tuple(found)


def _typed(seconds: float) -> str:
    """As `--every` reads it: `30m`, `2h`, `90s`."""
    for unit, letter in ((3600, "h"), (60, "m")):
        if seconds % unit == 0:
            return f"{seconds // unit:.0f}{letter}"
    return f"{seconds:.0f}s"


def _patroller(known: Patroller) -> str:
    next_at = datetime.fromtimestamp(known.next_at).astimezone()
    pid = known.identity.partition(" ")[0]
    skipped = f", {known.skipped} skipped" if known.skipped else ""
    return f"every {duration(known.every_s)} (pid {pid}), next {next_at:%H:%M}{skipped}"


def missed(ledger: Ledger, now: float) -> int:
    """How many of cron's slots went by without a tick since it last fired; 0 when it never fired here.

    A machine that slept, or a cron that is gone: the next tick says so, whoever started it.
    """
    last = next(iter(ledger.ticks.seen("cron", 1)), None)
    if last is None or now - last.at > _CRON_FORGOTTEN_S:
        return 0
    return max(0, round((now - last.at) / _CRON_EVERY_S) - 1)


def next_cron(now: float) -> str:
    """When cron fires next, local time, `HH:MM`."""
    here = datetime.fromtimestamp(now).astimezone()
    minute = next((m for m in CRON_MINUTES if m > here.minute), CRON_MINUTES[0])
    hour = here.hour if minute > here.minute else (here.hour + 1) % 24
    return f"{hour:02d}:{minute:02d}"
