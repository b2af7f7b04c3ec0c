"""What samples come to, and since when memory was rising."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onbox.meter.records import Metrics
from onbox.meter.rising import Rising
from onbox.meter.summary import Summary

T0 = 1_700_000_000_000
KEYS = [
    "total_time_secs",
    "sample_count",
    "max_processes",
    "max_threads",
    "total_disk_read_bytes",
    "total_disk_write_bytes",
    "total_syscall_read_bytes",
    "total_syscall_write_bytes",
    "peak_page_faults_cached",
    "peak_page_faults_disk",
    "total_sys_net_rx_bytes",
    "total_sys_net_tx_bytes",
    "peak_mem_rss_kb",
    "avg_cpu_usage",
    "peak_memory_mb",
    "avg_cpu_percent",
    "elapsed_time",
    "peak_mem_rss_at_ms",
    "peak_cgroup_used_kb",
    "cgroup_limit_kb",
    "rising_since_ms",
    "peak_gpu_mem_bytes",
    "exit_code",
    "signal",
    "killed_by",
]


def sample(at_s, cpu=0.0, rss=0, threads=1, **more):
    return Metrics(T0 + int(at_s * 1000), cpu, rss, thread_count=threads, **more)


def test_all_keys_of_the_contract_in_their_order_even_of_nothing():
    assert list(Summary().as_dict()) == KEYS


def test_figures():
    whole = Summary()
    whole.add(sample(0), 1, {"cgroup_used_kb": 10, "cgroup_limit_kb": 100})
    whole.add(sample(1, 100, 2048, 4, disk_read_bytes=7, syscall_write_bytes=9), 3, {"cgroup_used_kb": 50})
    whole.add(sample(4, 0, 1024, 2, disk_read_bytes=8, page_faults_disk=2), 2, {"cgroup_used_kb": 40})
    found = whole.as_dict()
    assert (found["sample_count"], found["total_time_secs"], found["elapsed_time"]) == (3, 4.0, 4.0)
    assert (found["max_processes"], found["max_threads"]) == (3, 4)
    assert (found["total_disk_read_bytes"], found["total_syscall_write_bytes"]) == (8, 9)
    assert (found["peak_mem_rss_kb"], found["peak_memory_mb"]) == (2048, 2.0)
    assert found["peak_mem_rss_at_ms"] == T0 + 1000
    assert found["avg_cpu_usage"] == found["avg_cpu_percent"] == 25.0, "a sample counts for its time"
    assert (found["peak_cgroup_used_kb"], found["cgroup_limit_kb"]) == (50, 100)
    assert found["exit_code"] is found["peak_gpu_mem_bytes"] is None


def test_the_kernels_figures_stand_above_those_of_samples():
    whole = Summary()
    whole.add(sample(0), 1, {})
    whole.add(sample(0.1, 50, 1000), 1, {})
    whole.exactly(elapsed_time=0.2, cpu_s=0.1, max_rss_kb=5000, minflt=12, rchar=77, exit_code=3, signal=None)
    found = whole.as_dict()
    assert (found["peak_mem_rss_kb"], found["avg_cpu_usage"], found["elapsed_time"]) == (5000, 50.0, 0.2)
    assert (found["peak_page_faults_cached"], found["total_syscall_read_bytes"]) == (12, 77)
    assert (found["exit_code"], found["signal"]) == (3, None)


def test_gpu_memory_of_the_tree_or_what_the_devices_gained():
    whole = Summary()
    own = {"has_process_data": True, "process_data": [{"memory_usage": 5}, {"memory_usage": 7}]}
    whole.add(sample(0), 1, {"gpu": own})
    assert whole.as_dict()["peak_gpu_mem_bytes"] == 12
    gained = {"has_process_data": False, "device_delta": [{"memory_used": 40}, {"memory_used": -3}]}
    whole.add(sample(1), 1, {"gpu": gained})
    assert whole.as_dict()["peak_gpu_mem_bytes"] == 40


def since(values, step_s=60):
    rising = Rising()
    for number, value in enumerate(values):
        rising.add(T0 + number * step_s * 1000, value)
    found = rising.since()
    return None if found is None else (found - T0) // (step_s * 1000)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([5], None, id="one"),
        pytest.param([100, 104, 109], None, id="less than a tenth"),
        pytest.param([100, 105, 111], 0, id="a tenth"),
        pytest.param([100, 200, 300, 400], 0, id="from the beginning"),
        pytest.param([100, 500, 100, 200, 300, 600], 2, id="since it fell"),
        pytest.param([100, 200, 195, 300], 0, id="a dip below 5 %"),
        pytest.param([100, 200, 150, 300], 2, id="a dip above 5 %"),
        pytest.param([100, 300, 200], 0, id="until its peak"),
        pytest.param([0] + [100] * 60 + list(range(100, 300, 5)), 62, id="a rest begins it anew"),
        pytest.param([0] + [100] * 60, 0, id="the peak was reached at once, then it rested"),
        pytest.param(
            [0] + [100 + (number * 7 % 60) // 15 for number in range(60)],
            None,
            id="a plateau with noise does not rise",
        ),
        pytest.param([100 * 1.01**number for number in range(100)], 0, id="one percent an hour is a rise"),
    ],
)
def test_since_when_memory_rises(values, found):
    assert since(list(map(int, values))) == found


def test_of_a_long_history_the_moment_is_known_to_a_hundredth():
    minutes = 5000  # far more than points
    values = [1000] * minutes + [1000 + 10 * number for number in range(minutes)]
    found = since(values)
    assert found is not None
    assert abs(found - minutes) <= 2 * minutes / 50


@pytest.mark.parametrize("samples", [50, 127, 128, 255, 1000, 3333])
def test_what_comes_after_the_peak_takes_nothing_of_the_rise(samples):
    rising = Rising()
    for number in range(samples):
        rising.add(T0 + number * 1000, 1000 + 10 * number)
    for number in range(300):  # the largest was killed, and the rest goes on
        assert rising.since() == T0
        rising.add(T0 + samples * 1000 + number * 10, 5)


@given(st.lists(st.integers(0, 10**9), max_size=600))
def test_any_history_is_bounded_and_its_moment_lies_before_its_peak(values):
    rising = Rising()
    for number, value in enumerate(values):
        rising.add(T0 + number * 100, value)
    assert len(rising._points) < 128
    found = rising.since()
    assert rising.peak == max(values, default=0)
    if found is not None:
        assert T0 <= found <= (rising.peak_at_ms or 0)


def test_a_clock_that_goes_back_breaks_nothing():
    whole = Summary()
    for at in itertools.chain(range(10), range(5), range(20)):
        whole.add(sample(at, 10, 100 + at), 1, {})
    found = whole.as_dict()
    assert found["total_time_secs"] == 19.0
    assert found["avg_cpu_usage"] > 0
