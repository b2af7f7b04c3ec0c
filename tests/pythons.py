"""The Pythons of this machine that the shipped tool must run under."""

import os
import pwd
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

SUPPORTED = tuple((3, minor) for minor in range(8, 14))


@cache
def found() -> dict[str, str]:
    """Version (`3.8`) to interpreter, for every supported CPython that runs here; says what is missing."""
    known = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    roots = [Path(os.environ["PYENV_ROOT"])] if "PYENV_ROOT" in os.environ else []
    roots += [home / ".pyenv", home / ".local/share/uv/python"]
    candidates = [
        path for root in roots for path in sorted(root.glob("**/bin/python3.?*")) if path.name[-1].isdigit()
    ]
    for major, minor in SUPPORTED:
        candidates += [Path(folder) / f"python{major}.{minor}" for folder in os.get_exec_path()]
    for path in candidates:
        version = path.name.removeprefix("python")
        if version in known or tuple(map(int, version.split("."))) not in SUPPORTED or not path.exists():
            continue
        asked = subprocess.run([path, "-I", "-V"], capture_output=True, text=True, check=False)
        if re.fullmatch(rf"Python {re.escape(version)}\.\S+\s*", asked.stdout):  # a shim may fail
            known[version] = str(path)
    missing = [f"{major}.{minor}" for major, minor in SUPPORTED if f"{major}.{minor}" not in known]
    if missing:
        print(f"not on this machine, so not tested here: Python {', '.join(missing)}", file=sys.__stderr__)
    return known
