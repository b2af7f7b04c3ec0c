"""What a person wrote by hand outlives every new page, and a page on disk is old or new, never half."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from waiting import wait_until

from fleet.errors import LedgerError
from fleet.model.spec import Stage
from handbook import store
from handbook.render import merge_notes, render

ROOT = Path(__file__).parents[3]
END = "<!-- notes by hand, train-k3f9: end -->"


@pytest.fixture(scope="session")
def page(make):
    return render(make.facts(), make.now)


@pytest.fixture(scope="session")
def later(make):
    return render(make.facts(verdict=None, armed=()), make.now + 3600)


def with_notes(page, notes):
    head, end, tail = page.rpartition(END)
    return f"{head}{notes}\n{end}{tail}"


@given(st.text(st.characters(exclude_categories=("Cs",))))
@example("## The chain\n\n```text\nrm -rf\n")
@example(END)
@example(f"above\n{END}\nbelow")
@example("\r\n windows \r\n")
def test_notes_are_kept_byte_for_byte_and_only_they(page, later, notes):  # P8
    merged = merge_notes(with_notes(page, notes), later)
    assert notes.strip("\n") in merged
    assert merged.startswith(later.rpartition(END)[0].rstrip("\n"))
    assert "cron 03:33" not in merged.replace(notes, "")
    assert merge_notes(merged, later) == merged
    assert merge_notes(merged, page).startswith(page.rpartition(END)[0].rstrip("\n"))


def test_without_notes_the_new_page_is_as_it_was_rendered(page, later):
    assert merge_notes(page, later) == later
    assert merge_notes("", later) == later


def test_what_was_added_below_the_end_is_kept_too(page, later):
    merged = merge_notes(with_notes(page, "first") + "added by echo\n", later)
    assert "\nfirst\n" in merged
    assert "\nadded by echo\n" in merged
    assert merged.endswith(f"{END}\n")


def test_with_the_end_gone_all_that_follows_is_kept(page, later):
    assert "\nby hand\n" in merge_notes(page.replace(END, "by hand"), later)


def test_another_runs_notes_are_not_taken(page, make):
    other = render(make.facts(make.run(run_id="train-zzzz")), make.now)
    assert merge_notes(with_notes(page, "mine"), other) == other


def test_a_command_that_looks_like_the_place_for_notes_is_not_taken_for_it(page, make):
    opening = next(line for line in page.split("\n") if line.startswith("<!-- notes"))
    stages = (Stage("one", f"{opening}\ncat\n{END}"),)
    tricky = render(make.facts(make.run(spec_stages=stages)), make.now)
    merged = merge_notes(with_notes(tricky, "mine"), page)
    assert merged == with_notes(page, "mine\n").replace(f"\n{END}", f"\n{END}", 1)


def test_a_page_is_written_private_and_keeps_its_notes(tmp_path, page, later):  # S41
    folder = tmp_path / "handbooks"
    before = os.umask(0)
    try:
        target = store.write(folder, "train-k3f9", page)
    finally:
        os.umask(before)
    assert target == store.path(folder, "train-k3f9")
    assert target.read_text() == page
    assert (target.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    target.write_text(with_notes(page, "the key is in the blue drawer"))
    target.chmod(0o644)
    store.write(folder, "train-k3f9", later)
    assert "the key is in the blue drawer" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in folder.iterdir()} == {"train-k3f9.md", ".lock"}


def test_a_page_whose_place_for_notes_was_damaged_is_kept_beside_the_new_one(tmp_path, page, later):
    damaged = with_notes(page, "precious").replace("<!-- notes by hand", "<!-- my notes")
    (tmp_path / "train-k3f9.md").write_text(damaged)
    store.write(tmp_path, "train-k3f9", later)
    assert (tmp_path / "train-k3f9.md").read_text() == later
    assert (tmp_path / "train-k3f9.md.kept").read_text() == damaged


def test_notes_in_an_old_encoding_are_kept_as_bytes(tmp_path, page, later):
    (tmp_path / "train-k3f9.md").write_bytes(with_notes(page, "sch@n").encode().replace(b"@", b"\xf6"))
    store.write(tmp_path, "train-k3f9", later)
    assert b"sch\xf6n" in (tmp_path / "train-k3f9.md").read_bytes()


def test_a_page_is_made_when_nobody_else_writes_any_more(tmp_path, page):
    with (tmp_path / ".lock").open("a") as other:

        def made():
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return page

        assert store.write(tmp_path, "train-k3f9", made).read_text() == page
        assert store.write_index(tmp_path, made).read_text() == page


def test_a_page_is_known_again_whatever_notes_stand_in_it(tmp_path, page, later):
    assert not store.holds(tmp_path, "train-k3f9", page)
    store.write(tmp_path, "train-k3f9", page)
    assert store.holds(tmp_path, "train-k3f9", page)
    store.path(tmp_path, "train-k3f9").write_text(with_notes(page, "by hand"))
    assert not store.holds(tmp_path, "train-k3f9", later)
    store.write(tmp_path, "train-k3f9", later)
    assert store.holds(tmp_path, "train-k3f9", later)
    assert not store.holds(tmp_path, "train-k3f9", page)


def test_the_index_lies_beside_the_pages(tmp_path):
    assert store.write_index(tmp_path, "# Runs\n").read_text() == "# Runs\n"
    assert (tmp_path / "handbook.md").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", ".hidden", "/etc/passwd", "a\0b"])
def test_a_run_id_cannot_lead_out_of_the_folder(run_id, tmp_path):  # S16
    with pytest.raises(ValueError, match="run id"):
        store.path(tmp_path, run_id)


def test_a_planted_link_is_replaced_and_never_followed(tmp_path, page):  # S37
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("train-k3f9.md", ".train-k3f9.md.new"):
        (tmp_path / name).symlink_to(victim)
    store.write(tmp_path, "train-k3f9", page)
    assert victim.read_text() == "mine"
    assert not (tmp_path / "train-k3f9.md").is_symlink()


def _writer(folder, body):
    code = f"from pathlib import Path\nfrom handbook import store\nfolder = Path({str(folder)!r})\n{body}"
    return [sys.executable, "-c", code]


def test_a_reader_and_a_killed_writer_never_leave_half_a_page(tmp_path, page, later):  # P8
    pages = tmp_path / "pages"
    texts = (page * 20, later * 20)
    for name, text in zip("ab", texts, strict=True):
        (tmp_path / name).write_text(text)
    body = (
        f"one, two = (Path({str(tmp_path)!r}, name).read_text() for name in 'ab')\n"
        "while True:\n    store.write_index(folder, one)\n    store.write_index(folder, two)\n"
    )
    seen = set()
    with subprocess.Popen(_writer(pages, body), cwd=ROOT) as writer:
        target = pages / store.INDEX
        wait_until(target.exists, 45, "the writer wrote its first page")

        def both_were_seen():
            content = target.read_text()
            assert content in texts
            seen.add(content)
            return len(seen) == 2

        try:
            wait_until(both_were_seen, 45, "both pages were seen")
        finally:
            writer.send_signal(signal.SIGKILL)
    assert target.read_text() in texts
    store.write_index(pages, "after\n")
    assert target.read_text() == "after\n"
    assert not list(pages.glob("*.new"))


def test_a_page_that_cannot_be_written_leaves_the_old_one_and_says_so(tmp_path, page):  # P8
    store.write(tmp_path, "train-k3f9", page)
    body = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "from fleet.errors import LedgerError\n"
        "try:\n    store.write(folder, 'train-k3f9', 'x' * 1000)\n"
        "except LedgerError as error:\n    print(error, error.exit_code)\n"
    )
    done = subprocess.run(
        _writer(tmp_path, body), cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert "cannot write" in done.stdout
    assert "train-k3f9.md" in done.stdout
    assert (tmp_path / "train-k3f9.md").read_text() == page


def test_a_folder_that_others_can_write_is_refused(tmp_path, page):  # S41
    tmp_path.chmod(0o777)
    with pytest.raises(LedgerError, match="other users"):
        store.write(tmp_path, "train-k3f9", page)
