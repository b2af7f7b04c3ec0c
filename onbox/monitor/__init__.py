"""A command watched from before its first instruction to after its last, and what its samples tell."""

_ROOMS = {
    "ProcessMonitor": "onbox.monitor.process",
    "aggregate_metrics": "onbox.usage.analysis",
    "convert_format": "onbox.usage.load",
    "execute_with_monitoring": "onbox.monitor.api",
    "find_peaks": "onbox.usage.analysis",
    "generate_summary_from_file": "onbox.usage.load",
    "generate_summary_from_metrics_json": "onbox.usage.load",
    "load_metrics": "onbox.usage.load",
    "process_tree_analysis": "onbox.usage.analysis",
    "resource_utilization": "onbox.usage.analysis",
    "save_metrics": "onbox.usage.load",
}


def __getattr__(name: str) -> object:
    """What a program imports from here; loaded when it is asked for."""
    if name not in _ROOMS:
        raise AttributeError("module %r has no attribute %r" % (__name__, name))
    import importlib  # noqa: PLC0415 - as the first line says

    return getattr(importlib.import_module(_ROOMS[name]), name)
