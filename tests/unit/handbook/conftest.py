"""A run, a verdict and facts as they would stand in the ledger; each with what a test wants to be otherwise."""

import msgspec
import pytest

from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Stage
from fleet.model.verdict import Evidence, Health, Severity, Verdict
from handbook.facts import facts

NOON = 1_795_000_000.0
STAGES = (
    Stage("prepare", "python3 prepare.py"),
    Stage("train", "python3 train.py --epochs 90"),
    Stage("eval", "python3 evaluate.py"),
)
NONCE = "c0ffee" + "ca11ab1e" * 3 + "00"
FINGERPRINT = "SHA256:4QyKl3+abc/def0123456789ABCDEFGHIJKLMNOPQRSTUV"


def a_run(**other):
    """`train-k3f9` on gpu1; spec_… and box_… change its spec and its box."""
    spec = {key.removeprefix("spec_"): other.pop(key) for key in list(other) if key.startswith("spec_")}
    box = {key.removeprefix("box_"): other.pop(key) for key in list(other) if key.startswith("box_")}
    run = Run(
        run_id="train-k3f9",
        spec=RunSpec(
            name="train", stages=STAGES, cwd="work", artifacts=("ck/*.json",), results=("results.csv",)
        ),
        box=BoxSpec(name="gpu1", host="gpu1"),
        nonce=NONCE,
        tag="train-k3f9-0123456789abcdef",
        chain="chain-71d0beef.sh",
        spec_digest="ab" * 32,
        armed_at=NOON - 7200,
        launched=True,
    )
    return msgspec.structs.replace(
        run,
        spec=msgspec.structs.replace(run.spec, **spec),
        box=msgspec.structs.replace(run.box, **box),
        **other,
    )


def a_verdict(health=Health.FAILED, **other):
    verdict = Verdict(
        run_id="train-k3f9",
        run="train",
        box="gpu1",
        row="R-SOME",
        health=health,
        severity=Severity.PAGE,
        exit_code=20,
        summary="stage train was killed by signal 9",
        since=NOON - 240,
        facts_at=NOON - 240,
        attempt=1,
        evidence=(Evidence("end", NOON - 240, "the end record says: failed, stage 02-train, signal 9"),),
        next=(),
        last_line="Epoch 37/90 - loss: 0.4120",
    )
    return msgspec.structs.replace(verdict, **other)


def some_facts(run=None, **other):
    values = {
        "host": "203.0.113.7",
        "port": 41022,
        "user": "root",
        "identity": "/home/mia/.ssh/rented",
        "home": "/home/mia",
        "fingerprint": FINGERPRINT,
        "verdict": a_verdict(),
        "armed": ("cron 03:33, last fired 22 min ago",),
    }
    return facts(run or a_run(), **{**values, **other})


class _Make:
    """What the tests of this folder build their cases from."""

    now, nonce, fingerprint = NOON, NONCE, FINGERPRINT
    run = staticmethod(a_run)
    verdict = staticmethod(a_verdict)
    facts = staticmethod(some_facts)


@pytest.fixture(scope="session")
def make():
    return _Make
