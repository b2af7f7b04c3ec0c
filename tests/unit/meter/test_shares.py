"""Who took what since the last sample, with processes that end in every order."""

import os

import pytest

from onbox.meter.shares import Shares
from onbox.meter.stat import NS_PER_TICK, Io, stat_of
from onbox.meter.tree import Member

US = 1
SECOND = 1_000_000_000
LINE = "{} (x) S {} 1 1 0 -1 0 {} 0 0 0 0 0 {} 0 20 0 1 0 {} 0 0 0 1 1 1" + " 0" * 20


def member(pid, ppid, cpu_s=0.0, waited_s=0.0, *, wrote=0, faults=0):
    one = Member(pid, "/nowhere")
    stat = stat_of(LINE.format(pid, ppid, faults, round(waited_s * SECOND / NS_PER_TICK), pid * 10).encode())
    assert stat is not None
    one.stat, one.start_ticks = stat, stat.start_ticks
    one.cpu_ns = int(cpu_s * SECOND)
    one.io = Io(0, wrote, 0, 0)
    return one


def taken(shares, members, gone=()):
    return shares.take(members, list(gone), US, 1.0)


def test_a_process_that_is_new_took_all_that_it_has():
    shares, root = Shares(), member(10, US, 5.0)
    shares.begin(root, whole=False)
    assert taken(shares, [root, member(11, 10, 0.25)]) == pytest.approx(25)
    assert shares.of(root).percent == 0
    assert taken(shares, [member(10, US, 5.5), member(11, 10, 0.5)]) == pytest.approx(75)


def test_a_child_that_ended_counts_once():
    shares, child = Shares(), member(11, 10, 0.3)
    taken(shares, [member(10, US), child])
    # Its parent waited for it: it had used half a second in all.
    assert taken(shares, [member(10, US, 0, 0.5)], [child]) == pytest.approx(20)


def test_a_family_that_ended_at_once_counts_once():
    shares = Shares()
    child, grandchild = member(11, 10, 0.3), member(12, 11, 0.4)
    taken(shares, [member(10, US), child, grandchild])
    assert taken(shares, [member(10, US, 0, 0.8)], [grandchild, child]) == pytest.approx(10)


def test_a_child_that_nobody_saw_counts_whole():
    shares = Shares()
    taken(shares, [member(10, US)])
    assert taken(shares, [member(10, US, 0, 0.4)]) == pytest.approx(40)


def test_a_child_that_nobody_waited_for_takes_nothing_back():
    shares, child = Shares(), member(11, 10, 0.3)
    taken(shares, [member(10, US), child])
    assert taken(shares, [member(10, US, 0.1)], [child]) == pytest.approx(10)


def test_the_same_number_is_another_process():
    shares, first = Shares(), member(11, 10, 0.9)
    taken(shares, [first])
    second = member(11, 10, 0.2)
    second.start_ticks += 1
    assert taken(shares, [second], [first]) == pytest.approx(20)


def test_what_was_there_before_does_not_count_unless_the_whole_is_asked():
    for whole, seen in ((False, 0), (True, 700)):
        shares, root = Shares(), member(10, US, wrote=700, faults=7)
        shares.begin(root, whole=whole)
        assert shares.counted(root)[1] == seen


def test_a_sum_never_falls_and_an_orphan_that_we_collected_stays_in_it():
    shares, orphan = Shares(), member(11, US, wrote=300)
    root = member(10, US, wrote=50)
    taken(shares, [root, orphan])
    assert shares.total([shares.counted(root), shares.counted(orphan)])[1] == 350
    taken(shares, [root], [orphan])
    assert shares.total([shares.counted(root)])[1] == 350
    assert shares.collected().wchar == 300
    lost = member(12, 10, wrote=1000)
    shares.total([shares.counted(root), shares.counted(lost)])
    taken(shares, [root], [lost])
    assert shares.total([shares.counted(root)])[1] == 1350


def test_a_name_is_written_once_and_anew_when_it_changes():
    share = Shares().of(member(10, US))
    assert share.named(b'a"b') == '"a\\"b"'
    assert share.named(b"\xff") == '"\\ufffd"'
    assert os.fsencode(share.named(b"sh")) == b'"sh"'
