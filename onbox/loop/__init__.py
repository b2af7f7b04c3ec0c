"""A loop that can be asked and steered while it runs: `for step in ipc_range(1000, label="training"):`."""

from onbox.loop.steps import IPCStep, ipc_range

__all__ = ["IPCStep", "ipc_range"]
