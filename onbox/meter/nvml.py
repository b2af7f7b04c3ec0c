"""What NVIDIA's own library says of GPUs and of the processes on them."""

import ctypes
from typing import Any, Dict, List, NamedTuple, Optional

_MOST_PROCESSES = 256
_UNKNOWN = (1 << 64) - 1
_CELSIUS_OF_THE_CHIP = 0
_NAME_BYTES = 96


class Use(NamedTuple):
    """One process on one device; None: the driver does not say."""

    pid: int
    device: int
    memory_bytes: Optional[int]
    busy: Optional[int]


class Seen(NamedTuple):
    """All devices at one moment, in the words of denet's `system_metrics`, and who is on them."""

    devices: List[Dict[str, Any]]
    processes: List[Use]


class _Rates(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Process(ctypes.Structure):
    _fields_ = (("pid", ctypes.c_uint), ("used", ctypes.c_ulonglong))


class _ProcessOfInstance(ctypes.Structure):
    _fields_ = (*_Process._fields_, ("instance", ctypes.c_uint), ("compute", ctypes.c_uint))


class _Sampled(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("at_us", ctypes.c_ulonglong),
        ("busy", ctypes.c_uint),
        ("memory", ctypes.c_uint),
        ("encoder", ctypes.c_uint),
        ("decoder", ctypes.c_uint),
    )


# Younger drivers say more of a process; the first that the library has.
_LISTS = (
    ("nvmlDeviceGetComputeRunningProcesses_v3", _ProcessOfInstance),
    ("nvmlDeviceGetComputeRunningProcesses_v2", _ProcessOfInstance),
    ("nvmlDeviceGetComputeRunningProcesses", _Process),
)


def driver_library() -> Any:
    """NVIDIA's library, of which nothing was asked yet. Raises OSError where there is none."""
    return ctypes.CDLL("libnvidia-ml.so.1")


class Nvml:
    """The library, open until `close`. Source: nvml.h of the CUDA toolkit."""

    def __init__(self, library: Any) -> None:
        """Raises OSError where it finds no driver."""
        self._lib = library
        if self._lib.nvmlInit_v2() != 0:
            raise OSError("nvmlInit_v2 failed")
        self._devices = self._handles()

    def read(self) -> Seen:
        """Every device as it is now. What a device does not tell is None in it."""
        seen = Seen([], [])
        for index, device in enumerate(self._devices):
            seen.devices.append(self._device(index, device))
            seen.processes.extend(self._processes(index, device))
        return seen

    def close(self) -> None:
        """Nothing comes back."""
        self._lib.nvmlShutdown()

    def _handles(self) -> List[Any]:
        count = ctypes.c_uint()
        if self._lib.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        found = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if self._lib.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) == 0:
                found.append(handle)
        return found

    def _device(self, index: int, device: Any) -> Dict[str, Any]:
        name = ctypes.create_string_buffer(_NAME_BYTES)
        rates, memory, degrees, milliwatts = _Rates(), _Memory(), ctypes.c_uint(), ctypes.c_uint()
        kind = ctypes.c_uint(_CELSIUS_OF_THE_CHIP)
        busy = self._told("nvmlDeviceGetUtilizationRates", device, ctypes.byref(rates))
        room = self._told("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
        warm = self._told("nvmlDeviceGetTemperature", device, kind, ctypes.byref(degrees))
        power = self._told("nvmlDeviceGetPowerUsage", device, ctypes.byref(milliwatts))
        self._told("nvmlDeviceGetName", device, name, ctypes.c_uint(_NAME_BYTES))
        return {
            "device_index": index,
            "name": name.value.decode("utf-8", "replace"),
            "system_utilization_gpu": rates.gpu if busy else None,
            "system_utilization_memory": rates.memory if busy else None,
            "memory_total": memory.total if room else None,
            "memory_used": memory.used if room else None,
            "memory_free": memory.free if room else None,
            "temperature": degrees.value if warm else None,
            "power_usage": milliwatts.value / 1000 if power else None,
        }

    def _processes(self, index: int, device: Any) -> List[Use]:
        busy = self._busy(device)
        for name, kind in _LISTS:
            if not hasattr(self._lib, name):
                continue
            count = ctypes.c_uint(_MOST_PROCESSES)
            rows = (kind * _MOST_PROCESSES)()
            if self._told(name, device, ctypes.byref(count), rows):
                return [
                    Use(row.pid, index, None if row.used == _UNKNOWN else row.used, busy.get(row.pid))
                    for row in rows[: min(count.value, _MOST_PROCESSES)]
                ]
            return []
        return []

    def _busy(self, device: Any) -> Dict[int, int]:
        """Percent by pid, of the youngest second that the driver has kept."""
        count = ctypes.c_uint(_MOST_PROCESSES)
        rows = (_Sampled * _MOST_PROCESSES)()
        since = ctypes.c_ulonglong(0)
        if not self._told("nvmlDeviceGetProcessUtilization", device, rows, ctypes.byref(count), since):
            return {}
        youngest: Dict[int, Any] = {}
        for row in rows[: min(count.value, _MOST_PROCESSES)]:
            if row.pid not in youngest or row.at_us > youngest[row.pid].at_us:
                youngest[row.pid] = row
        return {pid: row.busy for pid, row in youngest.items()}

    def _told(self, name: str, *arguments: Any) -> bool:
        """Whether the library has such a function and it succeeded."""
        function = getattr(self._lib, name, None)
        return function is not None and function(*arguments) == 0
