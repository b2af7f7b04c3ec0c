"""The line of a crontab that is ours, with a program that keeps one crontab in a file, as cron's own does."""

import pytest

from babysit.verbs import cli
from fleet.errors import BabysitError, NeedsApproval

CRONTAB = """#!/bin/sh
set -e
kept=$(dirname "$0")/kept
case $1 in
  -l) [ -e "$kept" ] || { echo 'no crontab for dev' >&2; exit 1; }; cat "$kept" ;;
  -) cat >"$kept" ;;
  -r) rm "$kept" ;;
esac
"""
OTHERS = [
    b"",
    b"MAILTO=me\n0 4 * * * backup %100\n",
    b"# BABYSIT_ORIGIN=cron BABYSIT_STATE=/else patrol\n\n  # odd \xff\r\n* * * * * a\n",
]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Where the crontab lies; it does not exist at first."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "crontab").write_text(CRONTAB)
    (folder / "babysit").write_text("")
    for tool in folder.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr("sys.argv", [str(folder / "babysit")])
    return folder / "kept"


def crontab(*words):
    return cli.main(["crontab", *words], standalone_mode=False) or 0


def exit_code(*words):
    with pytest.raises(BabysitError) as caught:
        crontab(*words)
    return caught.value.exit_code


def test_a_last_line_without_an_end_stays_a_line_of_its_own(kept, capsys):  # S42
    kept.write_bytes(b"0 4 * * * backup")
    assert crontab("--install", "--yes") == 0
    assert kept.read_bytes() == b"0 4 * * * backup\n" + capsys.readouterr().out.encode()


@pytest.mark.parametrize("before", OTHERS)
def test_what_was_installed_is_removed_to_the_byte_and_nothing_else(kept, before, capsys):  # S42 R103
    if before:
        kept.write_bytes(before)
    assert crontab("--install", "--yes") == 0
    line = capsys.readouterr().out.encode()
    assert line.count(b"\n") == 1 and kept.read_bytes() == before + line
    assert crontab("--install", "--yes") == 0
    assert kept.read_bytes() == before + line, "once is enough"
    assert crontab("--remove") == 0
    assert (kept.read_bytes() if kept.exists() else b"") == before
    assert kept.exists() is bool(before)
    assert crontab("--remove") == 0
    assert "no line of ours" in capsys.readouterr().out


def test_without_a_yes_nothing_is_installed_and_the_line_is_shown_first(kept, capsys):  # R102 S42
    with pytest.raises(NeedsApproval) as caught:
        crontab("--install")
    assert caught.value.next == ("babysit crontab --install --yes",)
    assert capsys.readouterr().out.startswith("3,33 * * * * ") and not kept.exists()
    assert crontab() == 0
    assert not kept.exists(), "only printed"


def test_lines_of_another_state_folder_and_those_commented_out_stay(
    kept, tmp_path, monkeypatch, capsys
):  # S42
    assert crontab("--install", "--yes") == 0
    mine = kept.read_bytes()
    monkeypatch.setenv("BABYSIT_STATE", str(tmp_path / "another"))
    assert crontab("--install", "--yes") == 0
    both = kept.read_bytes()
    assert both.startswith(mine) and both.count(b"\n") == 2
    monkeypatch.delenv("BABYSIT_STATE")
    kept.write_bytes(b"#" + both + mine)
    assert crontab("--remove") == 0
    assert kept.read_bytes() == b"#" + both


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ("#!/bin/sh\necho 'you (dev) are not allowed' >&2; exit 1\n", "not allowed"),
        ("#!/bin/sh\n[ $1 != - ] || exec cat >/dev/null\n", "reads back other"),  # takes it and keeps nothing
        (None, "cannot be run"),
    ],
)
def test_a_crontab_that_says_no_or_forgets_is_told(kept, tool, says, capsys):  # R103
    program = kept.with_name("crontab")
    program.write_text(tool) if tool else program.write_bytes(b"\x7fnot a program")
    with pytest.raises(BabysitError) as caught:
        crontab("--install", "--yes")
    assert caught.value.exit_code == 2 and says in caught.value.what
    assert exit_code("--install", "--remove") == 2
