"""The control queue of a training loop: commands that lie in a file, applied once and acknowledged.

Two formats meet here: `commands.jsonl` and `acks.jsonl` are those of runtimectl 0.1.0; what is ours stands
in `onbox/` beside them.
"""

from onbox.control.controller import RuntimeController

__all__ = ["RuntimeController"]
