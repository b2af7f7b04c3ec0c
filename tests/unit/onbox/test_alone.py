import ast
import sys
from pathlib import Path

import pytest

import onbox

SOURCES = sorted(Path(onbox.__file__).parent.rglob("*.py"))


def imported(source):
    """Every top-level name that the source imports; relative imports are our own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "onbox" if node.level else node.module.partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_onbox_imports_only_the_standard_library_and_itself(path):
    assert set(imported(path.read_text())) <= sys.stdlib_module_names | {"onbox"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_onbox_is_written_in_the_syntax_of_38(path):
    ast.parse(path.read_text(), feature_version=(3, 8))


def test_the_walk_finds_what_it_looks_for():
    source = "import msgspec\nfrom fleet.model import run\nfrom . import fs\ndef f():\n    import os.path\n"
    assert set(imported(source)) == {"msgspec", "fleet", "onbox", "os"}
    assert len(SOURCES) >= 4
