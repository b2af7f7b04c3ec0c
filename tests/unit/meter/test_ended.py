"""The end record, from what the kernel said: exact figures, who killed it, and what cannot be known."""

import json
import resource
import signal

import pytest

from onbox.meter.ended import Ended, Known, exit_record, killed_by
from onbox.meter.records import line
from onbox.meter.stat import Io

KEYS = [
    "kind", "ts_ms", "exit_code", "signal", "core_dumped", "killed_by", "oom", "wall_s", "utime_s", "stime_s",
    "max_rss_kb", "max_rss_exact", "max_rss_floor_kb", "minflt", "majflt", "nvcsw", "nivcsw", "rchar", "wchar",
    "read_bytes", "write_bytes", "left_running", "samples_taken", "samples_dropped", "monitor_cpu_s",
    "monitor_errors",
]  # fmt: skip
IO = (
    b"rchar: 1000\nwchar: 200\nsyscr: 1\nsyscw: 1\nread_bytes: 30\nwrite_bytes: 4\ncancelled_write_bytes: 0\n"
)


def usage(user=0.0, system=0.0, rss=0, faults=(0, 0), switches=(0, 0)):
    return resource.struct_rusage((user, system, rss, 0, 0, 0, *faults, 0, 0, 0, 0, 0, 0, *switches))


def ended(**changed):
    plain = Ended(0, None, False, usage(), None, [], 0, [], 0.01, 2.5, None, IO, 12_000, [])
    return plain._replace(**changed)


def record(known=None, **changed):
    return exit_record(ended(**changed), known or Known(), 1_700_000_000_000)


def test_all_keys_in_their_order_on_one_line():
    found = record()
    assert list(found) == KEYS
    assert json.loads(line(found)) == found


def test_sample_zero_is_subtracted_and_orphans_are_added():
    known = Known(
        zero_cpu_s=0.3,
        zero_faults=(10, 1),
        zero_switches=(2, 3),
        zero_io=Io(100, 0, 0, 0),
        collected_io=Io(5, 6, 7, 8),
    )
    found = record(
        known,
        rusage=usage(2.0, 0.5, 50_000, (110, 3), (12, 23)),
        adopted=[usage(1.0, 0.25, 80_000, (5, 0), (1, 1))],
    )
    assert (found["utime_s"], found["stime_s"]) == (3.0, 0.45)
    assert (found["max_rss_kb"], found["max_rss_exact"]) == (80_000, True)
    assert (found["minflt"], found["majflt"], found["nvcsw"], found["nivcsw"]) == (105, 2, 11, 21)
    assert (found["rchar"], found["wchar"], found["read_bytes"], found["write_bytes"]) == (905, 206, 37, 12)


def test_more_than_its_system_time_was_spent_before_the_exec():
    found = record(Known(zero_cpu_s=0.3), rusage=usage(0.2, 0.25))
    assert found["stime_s"] == 0.0 and found["utime_s"] == pytest.approx(0.15)


def test_below_the_floor_the_sampled_mark_stands():
    found = record(Known(sampled_hwm_kb=1700), rusage=usage(rss=11_999))
    assert (found["max_rss_kb"], found["max_rss_exact"], found["max_rss_floor_kb"]) == (1700, False, 12_000)


def test_without_rusage_and_io_null_says_that_nobody_knows():
    found = record(Known(sampled_io=Io(1, 2, 3, 4), sampled_hwm_kb=99), exit_code=None, rusage=None, io=None)
    assert found["exit_code"] is found["utime_s"] is found["minflt"] is found["nvcsw"] is None
    assert (found["rchar"], found["write_bytes"], found["max_rss_kb"], found["max_rss_exact"]) == (
        1,
        4,
        99,
        False,
    )


def test_a_torn_io_file_is_as_none():
    assert record(Known(sampled_io=Io(1, 2, 3, 4)), io=b"rchar: 5\n")["rchar"] == 1


def test_what_is_left_and_what_failed():
    found = record(left=[(7, "sleep")], errors=["disk full"], dropped=3)
    assert found["left_running"] == [{"pid": 7, "command": "sleep"}]
    assert (found["monitor_errors"], found["samples_dropped"]) == (["disk full"], 3)
    assert len(record(left=[(pid, "x") for pid in range(5000)])["left_running"]) == 1000


def test_oom_says_before_after_and_whose():
    assert record(Known(oom=(2, 3, "cgroup")))["oom"] == {"before": 2, "after": 3, "scope": "cgroup"}
    assert record()["oom"] is None


@pytest.mark.parametrize(
    ("changed", "hit", "who"),
    [
        ({"exit_code": 0}, False, None),
        ({"exit_code": 1}, False, None),
        ({"exit_code": 0}, True, None),
        ({"exit_code": 1}, True, "oom"),
        ({"exit_code": 137}, True, "oom"),
        ({"exit_code": None, "signal": signal.SIGKILL}, True, "oom"),
        ({"exit_code": None, "signal": signal.SIGKILL}, False, "unknown"),
        ({"exit_code": None, "signal": signal.SIGSEGV}, False, "unknown"),
        ({"exit_code": None, "signal": signal.SIGTERM, "killed": "timeout"}, True, "timeout"),
        ({"exit_code": 0, "killed": "user"}, False, "user"),
        ({"exit_code": None, "signal": None}, False, None),
        ({"exit_code": None, "signal": None}, True, None),
    ],
)
def test_who_killed_it_is_said_by_evidence(changed, hit, who):
    assert killed_by(ended(**changed), oom_hit=hit) == who
