"""The house: who may import whom, what stands where, and that nothing foreign is imported instead of ours."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from babysit.entry import SIBLINGS

ROOT = Path(__file__).parents[2]
CODE = ["babysit", "fleet", "handbook", "onbox", "patrol", "sentinels"]
SOURCES = [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]


def toml():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_import_contracts_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_top_folders_are_those_of_the_contract():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == set(CODE) == set(toml()["tool"]["importlinter"]["root_packages"])
    assert {"babysit", *SIBLINGS} == folders


def test_the_wheel_packs_every_folder_and_the_templates():
    wheel = toml()["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["packages"]) == set(CODE)
    assert wheel["force-include"] == {"templates": "babysit/templates"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_goes_round_the_one_place(path):  # S3 S17 S29 S35
    tree = ast.parse(path.read_text())
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
    }
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not names & {"AutoAddPolicy", "WarningPolicy"}
    assert not called & {"eval", "exec", "compile", "__import__"}
    assert not imports & {"pickle", "shelve", "marshal", "yaml", "tarfile"}
    assert "unpack_archive" not in names
    shell = [
        kw
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for kw in node.keywords
        if kw.arg == "shell"
    ]
    assert not shell


# What may stand in one room only. A second place would be a way round the first: (module, rooms where it may be used).
ROOMS: dict[str, tuple[str, ...]] = {
    # Quoting has one place; the other splits a command line that a program gives us, as a shell would, and runs no shell.
    "shlex": ("fleet/text/quote.py", "onbox/monitor/asked.py"),
    "paramiko": ("fleet/link/",),
    "fabric": ("fleet/link/",),
    "invoke": ("fleet/link/",),
    "socket": ("fleet/link/", "fleet/notices/send.py"),  # the other opens none: it refuses addresses
    "apprise": ("fleet/notices/",),
    "apscheduler": ("babysit/acts/every.py",),
    # A box is reached through fleet/link/open.py; only who confirms a key asks for one without logging in.
    "fleet.link.ssh": ("fleet/link/", "babysit/acts/trust.py"),
    "fleet.link.openssh": ("fleet/link/",),
    "sqlite3": ("fleet/ledger/",),
    "jinja2": ("fleet/text/fill.py",),
    "tomllib": ("fleet/spec/",),
    # A child is started where its reason is: a link, a launch of ourselves, the chain's stage on the box.
    "subprocess": ("fleet/link/", "fleet/notices/", "babysit/acts/", "onbox/"),
    "requests": ("fleet/notices/send.py",),  # what apprise sends with: only to hear its answers
    # Nothing of ours speaks over the network but the links and the library that sends notices (S43).
    **dict.fromkeys(("http", "ftplib", "smtplib", "urllib.request", "urllib3", "asyncio", "telnetlib"), ()),
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_may_act_stands_in_its_own_room(path):  # S3 S17 S43
    where = str(path.relative_to(ROOT))
    used = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            used.add(node.module)
            used |= {f"{node.module}.{alias.name}" for alias in node.names}  # from fleet.link import ssh
    for module, rooms in ROOMS.items():
        if any(name == module or name.startswith(f"{module}.") for name in used):
            assert where.startswith(rooms) if rooms else False, f"{where} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_all_that_is_said_goes_through_the_filters(path):  # S10 S23
    """The sinks: one module prints, one writes pages; each of them redacts."""
    where = str(path.relative_to(ROOT))
    if where.startswith("onbox/"):
        return
    tree = ast.parse(path.read_text())
    sinks = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    clocks = {
        "time.time",
        "time.monotonic",
        "time.perf_counter",
        "datetime.now",
        "datetime.today",
        "date.today",
    }
    assert not sinks & clocks or where == "fleet/clock.py"
    speaks = sinks & {"click.echo", "click.secho", "sys.stdout", "sys.stderr", "os.system", "os.popen"}
    allowed = {
        "babysit/verbs/speak.py": {"click.echo", "sys.stdout", "sys.stderr"},
        "fleet/notices/send.py": {"sys.stdout"},  # one receipt for the courier, whose log it is redacted for
        "fleet/notices/courier.py": {"sys.stderr"},  # redacted there
        "babysit/entry.py": {"sys.stdout", "sys.stderr"},
        "babysit/acts/doctor/as_cron.py": {"sys.stdout"},  # one answer for doctor, which redacts it
        "babysit/verbs/logs.py": {"sys.stdout"},  # --raw: the bytes as they are, on request
    }
    assert speaks <= allowed.get(where, set())


def test_the_lock_file_pins_by_hash_and_names_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in text
    assert not re.search(r"https?://|file:|--index-url|--find-links", text)
    pinned = re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE)
    wanted = {re.split(r"[<>=\[; ]", name)[0] for name in toml()["project"]["dependencies"]}
    assert wanted <= set(pinned)


def test_every_ignored_rule_has_its_reason():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    rules = [line for line in lines if re.match(r'\s+"[A-Z]+[0-9]*",', line)]
    bare = [line for line in rules if "#" not in line]
    assert len(rules) > 10 and not bare


# One table, read aloud from top to bottom: in two files it would have no order.
LONG_ON_PURPOSE = {ROOT / "patrol/table.py"}


@pytest.mark.parametrize(
    "path", [*set(SOURCES) - LONG_ON_PURPOSE], ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_module_is_longer_than_a_reader_can_hold(path):
    assert len(path.read_text().splitlines()) <= 300


def test_no_text_of_the_project_names_its_workshop():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    forbidden = re.compile(r"(^|[^A-Za-z0-9_.~-])/(work|root)/(main|shared|\.)|\.\./shared")
    guilty = []
    for name in listed:
        path = ROOT / name
        if path.is_file() and path != Path(__file__) and path.stat().st_size < 1_000_000:
            text = path.read_text(errors="replace")
            guilty += [name] if forbidden.search(text) else []
    assert not guilty


def test_a_foreign_package_of_our_name_is_refused(tmp_path):
    (tmp_path / "patrol").mkdir()
    (tmp_path / "patrol" / "__init__.py").write_text("raise SystemExit('foreign code ran')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from babysit.entry import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the package 'patrol' comes from" in done.stderr and "foreign code ran" not in done.stderr
