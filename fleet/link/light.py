"""paramiko without what no visit of ours uses: invoke, which costs more to import than all the rest of it."""

import importlib
import sys
import threading

_ONE_AT_A_TIME = threading.Lock()


def load_paramiko() -> None:
    """Import paramiko, without invoke where that is not imported yet.

    It needs invoke only for `Match exec` lines of its own ssh_config parser, which are never asked of it.
    Whoever imports invoke or fabric afterwards gets them as ever. Source: paramiko/config.py, where the
    import may fail; 0.40 s of CPU with invoke, 0.17 s without.
    """
    with _ONE_AT_A_TIME:
        if {"paramiko", "invoke"} & set(sys.modules):
            return
        sys.modules["invoke"] = None  # type: ignore[assignment]  # what an import that must fail looks for
        try:
            importlib.import_module("paramiko")
        finally:
            del sys.modules["invoke"]
