"""How far a training script is, said on its standard output: two lines in a script, nothing to install.

from onbox.pulse import progress, report
for batch in progress(loader):
    progress.track(loss=loss.item())
report(epoch, epochs, train_loss=…, val_loss=…)
"""

_ROOMS = {
    "heartbeat": "onbox.pulse.beat",
    "progress": "onbox.pulse.turns",
    "report": "onbox.pulse.epochs",
    "unbuffered": "onbox.pulse.stream",
}
__all__ = ["heartbeat", "progress", "report", "unbuffered"]


def __getattr__(name: str) -> object:
    """What a program imports from here; loaded when it is asked for."""
    if name not in _ROOMS:
        raise AttributeError("module %r has no attribute %r" % (__name__, name))
    import importlib  # noqa: PLC0415 - as the first line says

    return getattr(importlib.import_module(_ROOMS[name]), name)
