"""What each verb may do, as a table, and that it keeps to it."""

import hashlib

import click
import pytest
from ledger_samples import a_run, a_tick

from babysit.verbs import CAPABILITIES, VERBS, cli
from fleet.errors import BabysitError, NeedsApproval
from fleet.ledger.ledger import Ledger
from fleet.ledger.paths import state_folder

READS = [verb for verb, capability in CAPABILITIES.items() if capability.does == "reads"]
ENDS = [verb for verb, capability in CAPABILITIES.items() if capability.does == "ends"]
MUTATING = [verb for verb, capability in CAPABILITIES.items() if capability.does in ("acts", "ends")]
NAMELESS = {"check", "crontab"}  # about this machine's own ledger and crontab: there is no run or box to name


def command(verb):
    found = cli.get_command(None, verb)
    assert found is not None
    return found


def words(verb):
    """The least that the verb can be called with: a box and a run that exist, a choice's first word."""
    stand_in = {"box": "gpu1", "run": "train"}
    given = []
    for parameter in command(verb).params:
        if not parameter.required:
            continue
        word = (
            parameter.type.choices[0]
            if isinstance(parameter.type, click.Choice)
            else stand_in[parameter.name]
        )
        given += [word] if isinstance(parameter, click.Argument) else [parameter.opts[0], word]
    return given


def call(*typed):
    """The exit code, as the program would have it."""
    try:
        return cli.main(list(typed), standalone_mode=False) or 0
    except BabysitError as error:
        return error.exit_code
    except click.ClickException:
        return 2


def content(folder):
    """Every file below with its size, mode and bytes; readers of SQLite may leave its two side files."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


@pytest.fixture
def state(monkeypatch, tmp_path):
    """A ledger that knows one run."""
    monkeypatch.setattr("sys.argv", [__file__])
    with Ledger.open(state_folder(), write=True) as ledger:
        run = a_run()
        ledger.runs.put(run)
        ledger.ticks.commit(a_tick())
    return state_folder()


def test_every_verb_has_a_capability_and_every_capability_a_verb():  # S46
    assert set(CAPABILITIES) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_options_that_make_a_verb_act_are_its_options(verb):  # S46
    options = {name for option in command(verb).params for name in option.opts}
    assert set(CAPABILITIES[verb].only_with) <= options


@pytest.mark.parametrize("verb", READS)
def test_a_verb_that_reads_changes_nothing_and_makes_nothing(verb, state, tmp_path, capsys):  # S46
    before, project = content(state), content(tmp_path)
    call(verb, *words(verb))
    call(verb, *words(verb), "--json")
    assert content(state) == before and content(tmp_path) == project


@pytest.mark.parametrize("verb", READS)
def test_a_verb_that_reads_does_not_even_make_the_folder(verb, tmp_path, capsys):  # S46
    call(verb, *words(verb))
    assert not state_folder().exists()


@pytest.mark.parametrize("verb", ENDS)
def test_what_ends_something_can_be_given_a_yes(verb):  # S46
    assert "--yes" in {name for option in command(verb).params for name in option.opts}


# A verb that acts only with --yes just looks without it.
@pytest.mark.parametrize("verb", [verb for verb in ENDS if "--yes" not in CAPABILITIES[verb].only_with])
def test_what_ends_something_needs_a_yes_where_nobody_can_be_asked(verb, state, capsys):  # S46
    before = content(state)
    with pytest.raises(NeedsApproval) as caught:
        cli.main([verb, *words(verb)], standalone_mode=False)
    assert "--yes" in caught.value.next[0]
    after = content(state)
    assert after.pop("audit.log") and after == before


@pytest.mark.parametrize("verb", [verb for verb in MUTATING if verb not in NAMELESS])
def test_what_acts_needs_a_name(verb, state, capsys):  # S46
    before = content(state)
    flags = CAPABILITIES[verb].only_with or ("",)
    for flag in flags:
        option = next((each for each in command(verb).params if flag in each.opts), None)
        value = [] if option is None or option.is_flag else ["gpu1"]
        assert call(verb, *([flag] if flag else []), *value) == 2, (verb, flag)
    after = content(state)
    after.pop("audit.log", None)
    assert after == before
