"""GPUs: a library with NVIDIA's functions, its command, and pids that mean others inside a container."""

# ruff: noqa: N802, ARG002, ARG005 - the names and arguments are those of NVIDIA's header

import ctypes
import os
import sys
import threading
from pathlib import Path

import processes
import pytest
from waiting import wait_until

from onbox.meter import gpu
from onbox.meter.gpu import Gpu, devices_of, figures, uses_of
from onbox.meter.nvml import Nvml, Seen, Use

GIB = 1 << 30
UNKNOWN = (1 << 64) - 1


class Library:
    """Two devices. What the real library would write into the caller's memory, this writes there too."""

    def __init__(self, processes=(), version="_v3", broken=()):
        self.processes, self.broken = list(processes), broken
        self.used = [4 * GIB, 1 * GIB]
        self.open = 0
        setattr(self, "nvmlDeviceGetComputeRunningProcesses" + version, self._running)

    def nvmlInit_v2(self):
        self.open += 1
        return 9 if "init" in self.broken else 0

    def nvmlShutdown(self):
        self.open -= 1
        return 0

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        handle._obj.value = 100 + index.value
        return 15 if "lost" in self.broken and index.value == 1 else 0

    def nvmlDeviceGetName(self, device, name, size):
        assert size.value >= 96
        name.value = b"NVIDIA H100"
        return 0

    def nvmlDeviceGetUtilizationRates(self, device, rates):
        rates._obj.gpu, rates._obj.memory = device.value - 50, 7
        return 3 if "busy" in self.broken else 0

    def nvmlDeviceGetMemoryInfo(self, device, memory):
        used = self.used[device.value - 100]
        memory._obj.total, memory._obj.used, memory._obj.free = 80 * GIB, used, 80 * GIB - used
        return 0

    def nvmlDeviceGetTemperature(self, device, kind, degrees):
        degrees._obj.value = 61
        return 0

    def nvmlDeviceGetPowerUsage(self, device, milliwatts):
        milliwatts._obj.value = 350_500
        return 0

    def _running(self, device, count, rows):
        mine = [one for one in self.processes if one[0] == device.value - 100]
        for row, (_, pid, used) in zip(rows, mine, strict=False):
            row.pid, row.used = pid, used
        count._obj.value = len(mine)
        return 0

    def nvmlDeviceGetProcessUtilization(self, device, rows, count, since):
        mine = [one for one in self.processes if one[0] == device.value - 100]
        for number, (_, pid, _) in enumerate(mine):
            for at, busy in ((2, 40), (1, 99)):
                row = rows[2 * number + 2 - at]
                row.pid, row.at_us, row.busy = pid, at, busy
        count._obj.value = 2 * len(mine)
        return 0


def test_every_device_and_every_process():
    seen = Nvml(Library([(0, 11, 3 * GIB), (1, 12, UNKNOWN)])).read()
    assert [one["system_utilization_gpu"] for one in seen.devices] == [50, 51]
    assert seen.devices[0] == {
        "device_index": 0,
        "name": "NVIDIA H100",
        "system_utilization_gpu": 50,
        "system_utilization_memory": 7,
        "memory_total": 80 * GIB,
        "memory_used": 4 * GIB,
        "memory_free": 76 * GIB,
        "temperature": 61,
        "power_usage": 350.5,
    }
    assert seen.processes == [Use(11, 0, 3 * GIB, 40), Use(12, 1, None, 40)]


@pytest.mark.parametrize("version", ["_v3", "_v2", ""])
def test_every_age_of_the_library(version):
    library = Library([(0, 11, GIB), (0, 12, 2 * GIB)], version)
    assert [(one.pid, one.memory_bytes) for one in Nvml(library).read().processes] == [
        (11, GIB),
        (12, 2 * GIB),
    ]


def test_what_a_device_does_not_tell_is_none_and_a_lost_one_is_left_out():
    assert Nvml(Library(broken=("busy",))).read().devices[0]["system_utilization_gpu"] is None
    assert len(Nvml(Library(broken=("lost",))).read().devices) == 1


def test_a_library_without_a_driver_is_none_of_ours():
    with pytest.raises(OSError, match="nvmlInit"):
        Nvml(Library(broken=("init",)))


def test_our_structures_have_the_sizes_of_the_header():
    from onbox.meter import nvml

    sizes = {kind: ctypes.sizeof(kind) for kind in (nvml._Rates, nvml._Memory, nvml._Process)}
    assert list(sizes.values()) == [8, 24, 16]
    assert ctypes.sizeof(nvml._ProcessOfInstance) == 24
    assert ctypes.sizeof(nvml._Sampled) == 32


def seen(*processes, used=4 * GIB):
    return Seen([{"device_index": 0, "memory_used": used, "memory_total": 80 * GIB}], list(processes))


def test_on_the_machine_itself_only_the_trees_processes_are_its_own():
    found = figures(
        seen(Use(11, 0, 8 * GIB, 40), Use(99, 0, GIB, 1)), {11}, {0: GIB}, "nvml", contained=False
    )
    assert found["process_data"] == [
        {"pid": 11, "gpu_utilization": 40, "memory_usage": 8 * GIB, "memory_utilization_pct": 10.0}
    ]
    assert found["has_process_data"] and found["collection_method"] == "nvml" and "device_delta" not in found


def test_on_the_machine_itself_who_uses_nothing_has_gained_nothing():
    found = figures(seen(Use(99, 0, GIB, 1)), {11}, {0: GIB}, "nvml", contained=False)
    assert found["has_process_data"] and found["process_data"] == [] and "device_delta" not in found


def test_in_a_container_the_gain_of_the_device_is_named_as_such():
    found = figures(seen(Use(4711, 0, 3 * GIB, 1)), {11}, {0: GIB}, "nvml", contained=True)
    assert not found["has_process_data"]
    assert found["collection_method"] == "nvml-device-delta"
    assert found["device_delta"] == [{"device_index": 0, "memory_used": 3 * GIB}]


def test_in_a_container_whose_driver_knows_our_pids_they_are_believed():
    found = figures(seen(Use(11, 0, 3 * GIB, 1)), {11}, {0: GIB}, "nvml", contained=True)
    assert found["has_process_data"] and found["collection_method"] == "nvml"


def test_the_newest_figures_come_from_a_thread_and_the_library_is_closed():
    again = threading.Event()

    class Slow(Library):
        def nvmlDeviceGetMemoryInfo(self, device, memory):
            assert not seen_once or again.wait(45)
            return super().nvmlDeviceGetMemoryInfo(device, memory)

    library, seen_once, first = Slow([(0, os.getpid(), GIB)]), [], []
    asked = Gpu(lambda pid: None, library, contained=True)
    assert asked.method == "nvml"
    wait_until(lambda: first.append(asked.look(0, {os.getpid()})) or first[-1], 20, "the first look")
    assert first[-1]["process_data"][0]["memory_usage"] == GIB
    assert asked.busy() == 51
    seen_once.append(asked.look(0, {os.getpid()}))  # the next is held from here on
    wait_until(lambda: asked.look(0, {os.getpid()}) is None, 20, "that nothing is new")
    library.used[0] = 9 * GIB
    again.set()
    newer = []

    def changed():
        newer.append(asked.look(1, {os.getpid()}))
        return newer[-1] and newer[-1]["system_metrics"][0]["memory_used"] == 9 * GIB

    wait_until(changed, 45, "a newer look")
    asked.close()
    wait_until(lambda: library.open == 0, 45, "the library is closed")


CSV = """0, NVIDIA A100-SXM4-80GB, 97, 40, 81920, 40960, 40960, 61, 350.52
1, NVIDIA A100-SXM4-80GB, [N/A], [Not Supported], 81920, 0, 81920, 40, [N/A]
No devices were found
"""


def test_nvidia_smi():
    first, second = devices_of(CSV)
    assert first["memory_used"] == 40 * GIB and first["power_usage"] == 350.52 and first["temperature"] == 61
    assert second["system_utilization_gpu"] is None and second["power_usage"] is None
    assert uses_of("123, 40960\n77, [N/A]\nx\n") == [Use(123, -1, 40 * GIB, None), Use(77, -1, None, None)]


def script(tmp_path, body):
    path = tmp_path / "nvidia-smi"
    path.write_text(f"#!{sys.executable} -I\nimport sys, time\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_without_a_library_the_command_is_asked_and_never_waited_for(tmp_path):
    command = script(tmp_path, f"print({CSV!r} if 'query-gpu' in sys.argv[1] else '{os.getpid()}, 2048')")
    children = []
    asked = Gpu(children.append, Library(broken=("init",)), command, contained=False)
    found = []
    wait_until(lambda: found.append(asked.look(0, {os.getpid()})) or found[-1], 30, "an answer")
    assert asked.method == "nvidia-smi"
    assert found[-1]["process_data"] == [
        {"pid": os.getpid(), "gpu_utilization": None, "memory_usage": 2 * GIB, "memory_utilization_pct": None}
    ]
    assert asked.busy() == 97
    assert len(children) == 2, "both questions were named as children that are not the command's"
    asked.close()


def test_a_command_that_hangs_holds_nobody_and_is_ended(tmp_path):
    children = []
    asked = Gpu(
        children.append, Library(broken=("init",)), script(tmp_path, "time.sleep(600)"), contained=False
    )
    assert asked.look(0, set()) is None
    asked.close()
    wait_until(lambda: not processes.lives(children[0]), 20, "it is gone")


def test_what_a_command_that_hangs_has_started_is_ended_too(tmp_path):
    body = "import subprocess\nprint(subprocess.Popen(['sleep', '600']).pid, file=open(__file__ + '.pid', 'w', 1))\ntime.sleep(600)"
    asked = Gpu(lambda pid: None, Library(broken=("init",)), script(tmp_path, body), contained=False)
    said = tmp_path / "nvidia-smi.pid"
    wait_until(lambda: said.exists() and said.read_text().endswith("\n"), 20, "its child")
    asked.close()
    wait_until(lambda: not processes.lives(int(said.read_text())), 20, "it is gone")


def test_a_driver_that_hangs_at_its_beginning_holds_nobody():
    awake = threading.Event()

    class Hanging(Library):
        def nvmlInit_v2(self):
            awake.wait(30)
            return super().nvmlInit_v2()

    asked = Gpu(lambda pid: None, Hanging(), contained=True)
    assert not awake.is_set() and (asked.method, asked.look(0, set()), asked.busy()) == ("nvml", None, None)
    awake.set()
    wait_until(lambda: asked.look(0, set()), 20, "its first answer")
    asked.close()


def test_no_library_and_no_command():
    asked = Gpu(lambda pid: None, Library(broken=("init",)), "/nonexistent/nvidia-smi", contained=False)
    assert (asked.method, asked.look(0, set()), asked.busy()) == (None, None, None)
    asked.close()


def test_whether_our_pids_are_the_drivers():
    assert gpu.contained_here() == (Path("/proc/self/ns/pid").stat().st_ino != 0xEFFFFFFC)
