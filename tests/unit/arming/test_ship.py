import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import onbox
from fleet.arming.ship import build_pyz, onbox_name

REPOSITORY = Path(onbox.__file__).parents[1]
PRINT_HASH = "import hashlib; from fleet.arming.ship import build_pyz; b, d = build_pyz(); print(d, hashlib.sha256(b).hexdigest())"


def built(folder, umask=0o022):
    """What a fresh process makes of the packages in `folder`."""
    ran = subprocess.run(
        [sys.executable, "-c", PRINT_HASH],
        env={"PYTHONPATH": str(folder), "HOME": "/", "TZ": "Asia/Tokyo", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
        umask=umask,
    )
    return ran.stdout.split()


def test_the_name_is_the_contents_hash():
    pyz, digest = build_pyz()
    assert digest == hashlib.sha256(pyz).hexdigest()[:12]
    assert onbox_name(digest) == f"onbox-{digest}.pyz"
    assert build_pyz()[0] is pyz  # made once


def test_the_same_sources_make_the_same_bytes_wherever_and_whenever_they_lie(tmp_path):
    for package in ("onbox", "fleet"):
        shutil.copytree(
            REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for path in (tmp_path / "onbox").rglob("*.py"):
        path.chmod(0o755)
        os.utime(path, (10**9, 10**9))
    (tmp_path / "onbox/__pycache__").mkdir()
    (tmp_path / "onbox/__pycache__/x.pyc").write_bytes(b"x")
    pyz, digest = build_pyz()
    assert built(tmp_path, 0o077) == [digest, hashlib.sha256(pyz).hexdigest()]


def test_a_changed_source_makes_another_name(tmp_path):
    for package in ("onbox", "fleet"):
        shutil.copytree(
            REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    (tmp_path / "onbox/fs.py").write_text((tmp_path / "onbox/fs.py").read_text() + "# more\n")
    assert built(tmp_path)[0] != build_pyz()[1]


def test_it_holds_sources_only_sorted_and_dateless():
    with zipfile.ZipFile(io.BytesIO(build_pyz()[0])) as archive:
        names = archive.namelist()
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names[0] == "__main__.py"
    assert names[1:] == sorted(names[1:])
    assert "onbox/chain/supervise.py" in names
    assert all(name.endswith(".py") for name in names)
