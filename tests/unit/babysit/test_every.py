"""What `--every` accepts, what a tick is told, and when a patroller counts as armed."""

import os

import pytest
from ledger_samples import NOON, a_tick

from babysit.acts import armed
from babysit.acts.armed import legs
from babysit.acts.every import seconds_of
from babysit.acts.tick_child import gaps_told
from babysit.verbs import cli
from fleet.errors import UsageError
from fleet.ledger.ledger import Ledger
from sentinels import lease


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("60s", 60), ("2h", 7200), ("90 s", 90), ("45min", 2700), ("168h", 604800)],
)
def test_an_interval_is_read(text, seconds):
    assert seconds_of(text, {}) == seconds


@pytest.mark.parametrize(
    "text", ["5", "5s", "59s", "0m", "-5m", "169h", "", "m", "30", "1.5h", "30m; id", "1d", "9" * 30 + "h"]
)
def test_what_is_no_interval_or_too_short_is_refused(text):  # R111
    with pytest.raises(UsageError):
        seconds_of(text, {})


@pytest.mark.parametrize("told", ["", "{", "[1]", '[{"kind":"other","since":1,"until":2,"missed":3}]'])
def test_what_nobody_meant_as_a_gap_is_none(told):
    assert gaps_told({"BABYSIT_GAPS": told}) == ()


def _armed(tmp_path, identity, next_at, skipped=0):
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        mine = ledger.patrollers.register(identity, every_s=1800, at=NOON, next_at=next_at)
        for _ in range(skipped):
            ledger.patrollers.skipped(mine)
        return armed.triggers(ledger, NOON)


def test_a_patroller_is_armed_while_its_very_process_lives(tmp_path):  # R30
    (fire,) = _armed(tmp_path, lease.identity(), NOON + 600, skipped=2)
    assert fire.says.startswith(f"every 30 min (pid {os.getpid()}), next ")
    assert fire.says.endswith(", 2 skipped")


@pytest.mark.parametrize(
    "identity",
    ["1 1 another-boot", f"{os.getpid()} 1 -", "", "x"],
    ids=["another boot", "another start", "empty", "no identity"],
)
def test_a_patroller_whose_process_is_not_proven_is_not_armed(identity, tmp_path):  # R30
    assert _armed(tmp_path, identity, NOON + 600) == ()


def test_a_patroller_that_lives_but_is_long_overdue_is_not_armed(tmp_path):  # R30
    assert _armed(tmp_path, lease.identity(), NOON - 301) == ()


@pytest.mark.parametrize(
    ("every_s", "word"), [(1800, "30m"), (7200, "2h"), (90, "90s"), (5400, "90m"), (3.0, "3s")]
)
def test_a_patroller_that_died_is_told_with_the_command_that_starts_it_again(
    every_s, word, tmp_path
):  # R113 R108
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        ledger.patrollers.register(
            "4127 1 another-boot", every_s=every_s, at=NOON - 7200, next_at=NOON - 3600
        )
        ledger.patrollers.register(lease.identity(), every_s=1800, at=NOON, next_at=NOON + 60)
        ((died, says),) = armed.dead_patrols(ledger, NOON)
    assert died.identity == "4127 1 another-boot"
    assert says == (
        f"patrol --every {word} (pid 4127): gone, started 2 h ago, due 1 h ago; "
        f"again: babysit patrol --every {word}"
    )
    assert word == "3s" or seconds_of(word, {}) == every_s


def test_a_patroller_that_was_dropped_is_gone(tmp_path):
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        mine = ledger.patrollers.register(lease.identity(), every_s=60, at=NOON, next_at=NOON)
        ledger.patrollers.fires_next(mine, NOON + 60)
        (row,) = ledger.patrollers.all()
        assert (row.id, row.next_at, row.skipped) == (mine, NOON + 60, 0)
        ledger.patrollers.drop(mine)
        ledger.patrollers.drop(mine)
        assert ledger.patrollers.all() == ()


def test_what_the_box_guarantees_and_what_only_reports_are_told_apart_with_their_ends(tmp_path):  # R31 R92
    sure, nobody = legs(())
    assert sure.startswith("Each run finishes by itself on its box") and "nothing (babysit crontab)" in nobody
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        ledger.ticks.commit(a_tick(at=NOON, origin="cron"))
        ledger.patrollers.register(lease.identity(), every_s=1800, at=NOON, next_at=NOON + 600)
        ledger.waiters.register("train-k3f9", lease.identity(), NOON + 60, NOON)
        told = legs(armed.triggers(ledger, NOON))
    mine = f"pid {os.getpid()}"
    assert told[0] == sure
    cron, every, watch = told[1].removeprefix("Watching from here: ").split(" · ")
    assert cron.startswith("cron ") and cron.endswith("; not while this machine is off")
    assert every.startswith(f"every 30 min ({mine}), next ") and every.endswith("; ends with its terminal")
    assert watch == f"watch of train-k3f9, {mine}; ends with its terminal."
    for words, says in (
        ("patrol", "It dies with its terminal; cron does not"),
        ("watch", "dies with this terminal"),
    ):
        command = cli.get_command(None, words)
        assert says in " ".join((command.help or "").split())
