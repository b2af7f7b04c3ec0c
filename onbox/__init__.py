"""What babysit brings onto a rented box: one file, standard library only, for Python 3.8 and newer."""

__version__ = "0.1.0"

_ROOMS = {
    "IPCStep": "onbox.loop",
    "ipc_range": "onbox.loop",
    "RuntimeController": "onbox.control",
    "ProcessMonitor": "onbox.monitor",
    "execute_with_monitoring": "onbox.monitor",
}


def __getattr__(name: str) -> object:
    """What a program imports from here; loaded when it is asked for, so that `import onbox` stays light."""
    if name not in _ROOMS:
        raise AttributeError("module %r has no attribute %r" % (__name__, name))
    import importlib  # noqa: PLC0415 - as the first line says

    return getattr(importlib.import_module(_ROOMS[name]), name)
