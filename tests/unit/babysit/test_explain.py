"""explain: every id there is, in the words of the one place that defines it."""

import json

import pytest

from babysit.acts.explain import explain, meanings
from babysit.verbs import cli
from fleet import errors
from fleet.errors import EXIT_CODES, NotFound
from fleet.model.verdict import Health, Severity
from patrol.table import TABLE


def test_everything_that_can_be_met_can_be_explained():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "remedy")]
    wanted = {row.id for row in TABLE} | {str(code) for code in EXIT_CODES} | {kind.code for kind in kinds}
    wanted |= {health.value for health in Health} | {severity.value for severity in Severity}
    assert set(meanings()) == wanted
    assert len(meanings()) == len(TABLE) + len(EXIT_CODES) + len(kinds) + len(Health) + len(Severity)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)
def test_a_row_is_told_whole_and_its_commands_hold_no_gap(row):
    told = explain(row.id)
    assert (told.kind, told.says, told.exit_code) == ("row", row.because, row.exit_code)
    assert dict(told.facts) == {"health": row.health.value, "severity": row.severity.value}
    assert not any("{" in command or "''" in command for command in told.next)
    assert all(command.split()[0] in ("babysit", "ssh") for command in told.next)


def test_a_changed_host_key_says_what_it_is_and_what_to_do():
    told = explain("bs-hostkey-changed")
    assert told.id == "BS-HOSTKEY-CHANGED" and told.exit_code == 4
    assert "another key than the one pinned" in told.says
    assert "babysit trust BOX" in told.next[0] and dict(told.facts)["trying again"].startswith("fails")


@pytest.mark.parametrize(
    ("word", "sees"),
    [("20", "R-FAIL-1"), ("4", "BS-HOSTKEY-CHANGED"), ("orphaned", "R-ORPHAN-1"), ("page", "R-LOST-1")],
)
def test_a_code_or_a_word_names_the_rows_and_errors_that_lead_to_it(word, sees):
    assert sees in explain(word).see


@pytest.mark.parametrize(
    ("typed", "close"),
    [("R-STAL-1", "R-STALL-1"), ("BS-HOSTKEY-CHANGE", "BS-HOSTKEY-CHANGED"), ("orphand", "orphaned")],
)
def test_a_slip_is_answered_with_the_nearest(typed, close):
    with pytest.raises(NotFound) as caught:
        explain(typed)
    assert close in caught.value.hint and f"babysit explain {close}" in caught.value.next


@pytest.mark.parametrize("typed", ["zzzzzz", "\x1b[2J", "x" * 5000])
def test_what_is_near_to_nothing_is_not_found(typed):
    with pytest.raises(NotFound) as caught:
        explain(typed)
    assert caught.value.next == ("babysit explain",) and len(caught.value.what) < 200


def test_the_verb_prints_one_document_and_lines_within_80_columns(capsys):
    assert cli.main(["explain", "R-STALL-2", "--json"], standalone_mode=False) == 0
    document = json.loads(capsys.readouterr().out)
    (told,) = document["meanings"]
    assert document["schema"] == "babysit.explain/1" and document["exit_code"] == 0
    assert (told["id"], told["health"], told["exit_code"]) == ("R-STALL-2", "stalled", 10)
    for word in ([], ["R-STALL-2"], ["page"], ["75"]):
        assert cli.main(["explain", *word], standalone_mode=False) == 0
        shown = capsys.readouterr().out
        assert shown and max(map(len, shown.splitlines())) <= 80


def test_all_ids_are_listed_without_a_word(capsys):
    cli.main(["explain"], standalone_mode=False)
    listed = capsys.readouterr().out.replace(",", " ").split()
    assert set(meanings()) <= set(listed)
