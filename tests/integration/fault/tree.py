"""A copy of our sources with a guard taken out, and an interpreter of its own that imports from there."""

import compileall
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("babysit", "fleet", "handbook", "onbox", "patrol", "sentinels", "templates")
_RUN = """#!{python}
import sys
from babysit.entry import main
sys.exit(main())
"""


class Tree:
    """`python` and `babysit` of the copy; every child that they start imports from the copy, too."""

    def __init__(self, folder: Path, file: str, old: str, new: str) -> None:
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        target = folder / file
        text = target.read_text()
        assert text.count(old) == 1, f"{file} has the guard {text.count(old)} times: {old!r}"
        target.write_text(text.replace(old, new))
        compileall.compile_dir(str(folder), quiet=1)
        library = folder / f"venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        library.mkdir(parents=True)
        # The copy first, then our own libraries; what is installed there only by reference is not followed.
        libraries = [path for path in sys.path if path.endswith("-packages")]
        (library / "tree.pth").write_text("\n".join([str(folder), *libraries, ""]))
        base = Path(sys._base_executable).resolve()
        (folder / "venv/pyvenv.cfg").write_text(f"home = {base.parent}\n")
        (folder / "venv/bin").mkdir()
        self.python = folder / "venv/bin/python"
        self.python.symlink_to(base)
        self.babysit = folder / "venv/bin/babysit"
        self.babysit.write_text(_RUN.format(python=self.python))
        self.babysit.chmod(0o755)
