"""The tool that goes to the box: the onbox package as one file, the same bytes each time."""

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

import onbox

# A zip that any Python >= 3.8 runs, and from which a stage can `import onbox` when it is on PYTHONPATH.
_MAIN = b"from onbox.__main__ import main\n\nraise SystemExit(main())\n"
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say; the content alone decides the name
_MODE = 0o100600 << 16  # a plain file, as the zip's external attributes hold it
_UNIX = 3


def onbox_name(digest: str) -> str:
    """The file's name on the box for `build_pyz`'s digest."""
    return f"onbox-{digest}.pyz"


@cache
def build_pyz() -> tuple[bytes, str]:
    """The shipped file's bytes, and the first 12 hex digits of their SHA-256. Made once a process.

    Raises FileNotFoundError when the installed package has no plain source files.
    """
    folder = Path(onbox.__file__).parent
    sources = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    if "__main__.py" not in sources:
        raise FileNotFoundError(f"no onbox sources in {folder}")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "__main__.py", _MAIN)
        for source in sources:
            _add(archive, f"onbox/{source}", (folder / source).read_bytes())
    content = packed.getvalue()
    return content, hashlib.sha256(content).hexdigest()[:12]


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system = _UNIX
    entry.external_attr = _MODE
    archive.writestr(entry, content)
