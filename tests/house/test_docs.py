"""Pages in step with the code: generated parts are compared, promised files are there, links lead somewhere."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from babysit.verbs import VERBS, cli
from fleet import errors

ROOT = Path(__file__).parents[2]


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = generator().PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_the_code_says(name):  # R88
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run: make docs"


# Frozen: a code keeps its meaning for ever. A new one may be added, none may change.
CODES = (0, 1, 2, 3, 4, 5, 10, 11, 12, 20, 21, 22, 23, 75, 124, 130, 141, 143)


def test_the_exit_codes_are_frozen():
    assert tuple(errors.EXIT_CODES) == CODES
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BabysitError)
    ]
    assert len(kinds) > 10
    assert {kind.exit_code for kind in kinds} <= set(CODES)
    assert len({kind.code for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_there_and_says_what_it_does(name):
    command = cli.get_command(None, name)
    assert command is not None and command.name == name
    assert len(command.help) > 60
    assert f"babysit {name}" in (ROOT / "docs/commands.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "docs/architecture.md",
        "docs/glossary.md",
        "docs/requirements.md",
    ],
)
def test_a_promised_page_is_there(name):
    assert len((ROOT / name).read_text()) > 400


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_readme_names_the_two_commands_and_the_decision_table():
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text and "make test" in text and "docs/decision-table.md" in text


NAMED = re.compile(r"#\s*((?:[RPSD]\d+[ ,]*)+)$", re.MULTILINE)


def test_every_requirement_has_its_tests_and_every_test_its_requirement():
    rows = tomllib.loads((ROOT / "docs/requirements.toml").read_text())
    named = {
        row
        for path in (ROOT / "tests").rglob("*.py")
        for found in NAMED.findall(path.read_text())
        for row in re.findall(r"[RPSD]\d+", found)
    }
    assert sorted(set(rows) - named) == [], "rows without a test"
    assert sorted(named - set(rows)) == [], "tests that name no row"
