"""The formats in the folder of steering: read whole or not at all, written whole, bounded."""

import contextlib
import datetime as dt
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onbox.wire import card, folder, identity, registry, state, text, words
from onbox.wire.literal import literal


@pytest.fixture
def place(tmp_path):
    made = tmp_path / "ipc"
    made.mkdir(mode=0o700)
    folder.ours(made)
    return made


# The folder


def test_the_folder_is_asked_of_the_environment_each_time(monkeypatch, tmp_path):
    monkeypatch.setenv("LOOPCTL_DIR", str(tmp_path / "a"))
    assert folder.directory() == tmp_path / "a"
    monkeypatch.delenv("LOOPCTL_DIR")
    assert folder.directory() == Path.home() / ".ipc"


def test_a_missing_folder_is_made_for_us_alone_with_its_parents(monkeypatch, tmp_path):  # S37
    monkeypatch.setenv("LOOPCTL_DIR", str(tmp_path / "a/b/ipc"))
    before = os.umask(0)
    try:
        made = folder.opened()
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (made, made.parent, made.parent.parent)] == [0o700] * 3


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_may_write_to_is_not_used(monkeypatch, tmp_path, mode):  # S38
    (tmp_path / "ipc").mkdir()
    (tmp_path / "ipc").chmod(mode)
    monkeypatch.setenv("LOOPCTL_DIR", str(tmp_path / "ipc"))
    with pytest.raises(folder.Unsafe, match="chmod 700"):
        folder.opened()


def test_a_folder_of_another_owner_is_not_used(monkeypatch, tmp_path):  # S38
    (tmp_path / "ipc").mkdir(mode=0o700)
    os.chown(tmp_path / "ipc", 12345, 12345)
    monkeypatch.setenv("LOOPCTL_DIR", str(tmp_path / "ipc"))
    with pytest.raises(folder.Unsafe, match="belongs to uid 12345"):
        folder.opened()


def test_our_part_of_the_folder_is_no_link_to_elsewhere(place, tmp_path):
    (place / "onbox").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (place / "onbox").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(folder.Unsafe):
        folder.ours(place)


def test_only_plain_files_of_ours_are_read(place, tmp_path):  # S37
    (tmp_path / "secret").write_text("{}")
    (place / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(place / "pipe")
    (place / "long").write_bytes(b"x" * 11)
    (place / "theirs").write_bytes(b"{}")
    os.chown(place / "theirs", 12345, 12345)
    for name in ("link", "pipe", "long", "theirs"):
        with pytest.raises(OSError, match=name):
            folder.read_plain(place / name, 10)
    with pytest.raises(FileNotFoundError):
        folder.read_plain(place / "none", 10)
    (place / "plain").write_bytes(b"x" * 10)
    assert folder.read_plain(place / "plain", 10) == b"x" * 10


def test_what_is_written_is_whole_and_private(place):
    before = os.umask(0)
    try:
        folder.write_whole(place / "a", b"old")
        folder.write_whole(place / "a", b"new")
    finally:
        os.umask(before)
    assert (place / "a").read_bytes() == b"new"
    assert (place / "a").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in place.iterdir()) == ["a", "onbox"]


# Who


def test_a_process_is_its_number_its_start_and_its_boot():  # S40
    me = identity.of(os.getpid())
    assert identity.same(me)
    assert not identity.same(me._replace(start_ticks=me.start_ticks - 1))
    assert not identity.same(me._replace(boot_id="another"))
    assert not identity.same(identity.Identity(os.getpid(), None, None))


def test_a_dead_process_is_none_collected_or_not():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identity.of(child.pid) is None
    child.wait()
    assert identity.of(child.pid) is None


def test_a_command_name_full_of_brackets_is_read_over(tmp_path):
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([odd, "30"])
    try:
        assert identity.of(child.pid).start_ticks >= identity.of(os.getpid()).start_ticks
    finally:
        child.kill()
        child.wait()


# The registry


def entry(pid, **more):
    return {
        "pid": pid,
        "label": "l",
        "script": "s",
        "language": "python",
        "start_time": "t",
        "ppid": 1,
        **more,
    }


def test_the_registry_is_that_of_loopmonitor(place):
    registry.changed(place, lambda all_: all_.update({"7": entry(7, label="ä")}))
    raw = (place / "registry.json").read_text()
    assert raw == json.dumps({"7": entry(7, label="ä")}, indent=2)
    assert registry.entries(place) == [registry.Entry(7, "ä", "s", "python", "t", 1)]


def test_no_registry_is_no_loop_but_a_torn_one_is_not(place):
    assert registry.entries(place) == []
    for torn in (b"", b'{"7": {"pid"', b"[]"):
        (place / "registry.json").write_bytes(torn)
        with pytest.raises(registry.Torn):
            registry.entries(place)


@pytest.mark.parametrize("torn", [registry.entries, lambda place: state.live(place, 7) or 1 / 0])
def test_what_is_whole_a_moment_later_is_read(place, torn):
    for path in (place / "registry.json", folder.state(place, 7)):
        path.write_bytes(b"")
        assert text.patiently(path, 99, lambda _, path=path: path.write_bytes(b'{"pid": 7}')) == {"pid": 7}
        path.write_bytes(b"")
    began = time.monotonic()
    with pytest.raises((registry.Torn, ZeroDivisionError)):
        torn(place)
    assert time.monotonic() - began >= 0.05, "that moment was waited for"


def test_odd_entries_are_passed_over(place):
    odd = {"1": 3, "2": {"pid": "2"}, "3": entry(True), "4": entry(-1), "5": {"pid": 5, "label": 7}}
    (place / "registry.json").write_text(json.dumps(odd))
    assert registry.entries(place) == [registry.Entry(5, "", "", "", "", None)]


def test_what_cannot_be_read_is_kept_beside_before_it_is_replaced(place):
    (place / "registry.json").write_bytes(b'{"9": {"pid": 9, "la')
    registry.changed(place, lambda all_: all_.update({"7": entry(7)}))
    assert [one.pid for one in registry.entries(place)] == [7]
    assert [path.read_bytes() for path in place.glob("registry.unreadable-*")] == [b'{"9": {"pid": 9, "la']


def test_writers_at_the_same_time_lose_nothing(place):
    def add(first):
        for pid in range(first, first + 10):
            written = False
            while not written:
                with contextlib.suppress(TimeoutError):  # of three, one may find it held for long
                    registry.changed(place, lambda all_, pid=pid: all_.update({str(pid): entry(pid)}))
                    written = True

    threads = [threading.Thread(target=add, args=(first,)) for first in (100, 200, 300)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(registry.entries(place)) == 30


# State


def test_the_state_has_the_keys_of_loopmonitor_in_its_order():
    said = state.document(7, 25, 100, elapsed_s=10.04, tracked={"loss": 1.0}, now=1_700_000_000.5)
    assert list(said) == ["pid", "iteration", "total", "elapsed_sec", "eta_sec", "tracked", "updated"]
    assert (said["elapsed_sec"], said["eta_sec"]) == (10.0, 30.1)
    assert said["updated"] == dt.datetime.fromtimestamp(1_700_000_000.5, dt.UTC).isoformat()


@pytest.mark.parametrize(
    ("iteration", "total", "initial", "eta"),
    [(0, 10, 0, None), (5, None, 0, None), (5, 0, 0, None), (60, 100, 50, 40.0), (50, 100, 50, None)],
)
def test_the_rest_is_reckoned_from_what_this_process_did(iteration, total, initial, eta):
    said = state.document(7, iteration, total, elapsed_s=10.0, tracked={}, now=0.0, initial=initial)
    assert said["eta_sec"] == eta


class Raises:
    def __str__(self):
        raise RuntimeError("no")

    def __float__(self):
        raise RuntimeError("no")

    @property
    def ndim(self):
        raise RuntimeError("no")


class Scalar:
    ndim = 0

    def item(self):
        return 0.5


class Row:
    ndim = 1

    def __init__(self, values):
        self.values = values

    def __getitem__(self, which):
        return Row(self.values[which])

    def tolist(self):
        return self.values


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("x" * 300, "x" * 200),
        ([1, "a", None], [1, "a", None]),
        ((1, 2), [1, 2]),
        (list(range(5000)), list(range(4001, 5000))),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
        (Scalar(), 0.5),
        (Row(list(range(3))), [0, 1, 2]),
        (b"x", "b'x'"),
        (10**400, "a whole number of 1329 bits"),
        (Raises(), "a value of type Raises that cannot be shown"),
        ([Raises()], ["a value of type Raises that cannot be shown"]),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_a_tracked_value_becomes(value, plain):
    assert state.plain(value) == plain


def test_a_list_in_itself_has_an_end():
    value = []
    value.append(value)
    assert json.dumps(state.plain(value))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner)
    ),
)


@settings(max_examples=50)
@given(VALUES)
def test_whatever_is_tracked_json_can_hold_it(value):
    assert json.dumps(state.plain(value)).isascii()


def test_numbers_without_a_word_are_written_as_python_does():
    assert json.dumps(state.plain([math.nan, math.inf])) == "[NaN, Infinity]"


def test_a_state_is_read_when_it_is_whole(place):
    assert state.live(place, 7) is None
    path = folder.state(place, 7)
    path.write_bytes(b'{"pid": 7}')
    assert state.live(place, 7) == {"pid": 7}
    path.write_bytes(b'{"pid"')
    assert state.live(place, 7) is None


# Words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0, "00:00"),
        (65.9, "01:05"),
        (3600, "1:00:00"),
        (93784, "1d 02:03:04"),
        ("x", "?"),
        (math.nan, "?"),
    ],
)
def test_times_are_those_of_loopmonitor(seconds, text):
    assert words.clock_text(seconds) == text


def test_the_peek_block():
    said = {
        "pid": 7,
        "iteration": 25,
        "total": 100,
        "elapsed_sec": 10,
        "eta_sec": None,
        "tracked": {"a": 1, "b": [2]},
    }
    assert words.peek_block(said) == (
        "[loopmonitor] PID 7  iter 25/100  (25.0%)\n         elapsed 00:10  ETA ?\n         a=1  b=[2]"
    )
    assert (
        words.peek_block({"pid": 7, "iteration": 2, "tracked": {}}).splitlines()[0]
        == "[loopmonitor] PID 7  iter 2"
    )


def test_the_list():
    one = registry.Entry(7, "a" * 40, "s", "python", "2026-05-16T09:14:02.123+00:00", 3)
    two = one._replace(pid=8, language="R", ppid=None)
    rows = words.list_rows([(one, True), (two, False)])
    assert rows[0] == "     PID     PPID  ALIVE  LANG  LABEL                           STARTED"
    assert rows[1] == "\u2500" * 85
    assert rows[2] == f"       7        3    yes  Py    {'a' * 30}  2026-05-16 09:14:02"
    assert rows[3] == f"       8        \u2014    no   R     {'a' * 30}  2026-05-16 09:14:02"
    assert words.list_rows([(two, False)])[1] == "\u2500" * 76
    assert "PPID" not in words.list_rows([(two, False)])[0]
    assert words.list_rows([]) == ["No registered processes."]
    assert words.list_rows([(one, True)], group=9) == ["No processes with PPID 9."]


# The card


def a_card(**more):
    loops = (card.Loop(1, "training", 50, 1.5), card.Loop(2, "batches", None, 2.5))
    kept = {
        "host": "h",
        "cwd": "/c",
        "script": "s",
        "started_at": 1.0,
        "tag": None,
        "group": "g",
        "rank": 0,
        "world": 2,
    }
    return card.Card(identity=identity.Identity(7, 5, "boot"), loops=loops, **{**kept, **more})


def test_a_card_comes_back_as_it_was(place):
    card.write(place, a_card())
    assert card.read(place, 7) == a_card()
    said = json.loads((place / "onbox/7.json").read_text())
    assert (said["format"], said["pid"], said["start_ticks"], said["boot_id"]) == (1, 7, 5, "boot")
    assert said["loops"][1] == {"n": 2, "label": "batches", "total": None, "started_at": 2.5}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"pid": 8},
        {"pid": "7"},
        {"pid": True},
        {"start_ticks": -1},
        {"boot_id": 3},
        {"host": None},
        {"loops": {}},
        {"loops": [3]},
        {"loops": [{"n": 1}]},
        {"rank": "0"},
        {"started_at": "now"},
        {"host": "x" * 70_000},
    ],
    ids=str,
)
def test_a_card_that_is_odd_in_any_way_is_none(place, change):
    card.write(place, a_card())
    said = {**json.loads((place / "onbox/7.json").read_text()), **change}
    (place / "onbox/7.json").write_text(json.dumps(said))
    assert card.read(place, 7) is None


def test_a_card_of_hundreds_of_loops_stays_readable(place):
    loops = tuple(card.Loop(n, "x" * 1000, None, 0.0) for n in range(1000))
    card.write(place, a_card()._replace(loops=loops))
    assert len(card.read(place, 7).loops) == 100


# Literals


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.001", 0.001),
        (" [1, (2,)] ", [1, (2,)]),
        ("'a b'", "a b"),
        ("-1", -1),
        ("None", None),
        (r"'a\\d'", r"a\d"),
    ],
)
def test_literals_are_read(text, value):
    assert literal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *(
            "x",
            "",
            "().__class__",
            "[1] * 9",
            "9**9**9",
            "1if 1 else 2",
            r"'\d'",
            r"'\777'",
            "(" * 30 + ")" * 30,
        ),
        *("-" * 4000 + "1", "'" + "x" * 5000 + "'", "'a\nb'", "1\x00", "f'{x}'"),
    ],
    ids=lambda text: text[:20].encode("unicode_escape").decode(),
)
def test_anything_else_is_refused_in_words(text, recwarn):  # S30
    with pytest.raises(ValueError, match=r"\w"):
        literal(text)
    assert not recwarn.list


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_no_text_does_more_than_be_refused(text):
    with contextlib.suppress(ValueError):
        literal(text)
