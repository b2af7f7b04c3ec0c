"""Small frozen values to fill a ledger with, and a writer that never gives up."""

import contextlib
from collections.abc import Callable
from typing import Any

from fleet.errors import Busy
from fleet.ledger.rows import Event, TickRecord
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Stage, TargetSpec
from fleet.model.verdict import Evidence, Health, Severity, Verdict

NOON = 1_795_000_000.0
HOOK = TargetSpec("hook", "env:HOOK_URL")


def a_run(
    run_id: str = "train-k3f9", *, box: str = "gpu1", at: float = NOON, newer: str | None = None
) -> Run:
    spec = RunSpec(run_id.partition("-")[0], (Stage("train", "python train.py"),), box=box)
    return Run(
        run_id,
        spec,
        BoxSpec(box, f"{box}.example"),
        nonce="0f" * 16,
        tag=f"{run_id}-0011223344556677",
        chain="chain-71d0aa11.sh",
        spec_digest="ab" * 32,
        armed_at=at,
        superseded_by=newer,
    )


def a_verdict(
    run_id: str = "eval-9d2k",
    *,
    health: Health = Health.STALLED,
    severity: Severity = Severity.PAGE,
    last_line: str | None = "step 12/40 loss 0.41",
    **changed: object,
) -> Verdict:
    values: dict[str, object] = {
        "run_id": run_id,
        "run": run_id.partition("-")[0],
        "box": "gpu2",
        "row": "R-STALL-2",
        "health": health,
        "severity": severity,
        "exit_code": 10,
        "summary": "no step for 26 min (usual: 40 s) · GPU 0 %",
        "since": NOON - 1560,
        "facts_at": NOON - 240,
        "attempt": 1,
        "evidence": (Evidence("log", NOON - 240, "no new bytes for 1560 s"),),
        "next": ("babysit logs gpu2 eval",),
        "last_line": last_line,
    }
    return Verdict(**values | changed)  # type: ignore[arg-type]


def an_event(event_id: str = "ev-1", *, severity: Severity = Severity.PAGE, at: float = NOON) -> Event:
    title = "eval on gpu2: STALLED (no step for 26 min)"
    return Event(event_id, "eval-9d2k", "first", severity, at, title, f"what was seen\nevent: {event_id}")


def a_tick(
    *events: Event, targets: tuple[TargetSpec, ...] | None = (HOOK,), at: float = NOON, origin: str = "cron"
) -> TickRecord:
    return TickRecord(
        at=at,
        took_s=1.4,
        origin=origin,
        exit_code=10,
        verdicts=(a_verdict(),),
        histories={"eval-9d2k": b'{"flaps":[]}'},
        incidents=b'[{"row":"R-STALL-2"}]',
        events=events,
        targets=targets,
    )


def surely(act: Callable[..., Any], *words: object, **more: object) -> Any:
    """What `act` returns. Who finds the ledger busy tries again, for as long as the test itself may take."""
    while True:
        with contextlib.suppress(Busy):
            return act(*words, **more)
