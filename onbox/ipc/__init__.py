"""The `ipc` command: asking and steering the loops that run on this machine."""
