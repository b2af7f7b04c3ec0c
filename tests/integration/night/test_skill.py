"""`babysit skill` as its user meets it: in a project, twice, over a changed file, with and without force."""

import pytest
from laptop import Laptop


@pytest.fixture
def home(tmp_path):
    laptop = Laptop(tmp_path / "laptop", ())
    yield laptop
    laptop.close()


def test_the_skill_goes_where_the_host_looks_and_is_not_written_over(home):
    other = home.run("skill", "--host", "codex")
    assert (home.home / ".agents/skills/babysit/SKILL.md").is_file(), other.said
    host, skill = "claude", home.home / ".claude/skills/babysit/SKILL.md"
    first = home.run("skill", "--host", host)
    assert first.returncode == 0 and str(skill) in first.stdout, first.said
    written = skill.read_bytes()
    assert home.run("skill", "--host", host, str(home.home)).returncode == 0
    skill.write_bytes(written + b"mine \x1b[2J\n")
    kept = home.run("skill", "--host", host)
    assert kept.returncode == 5 and f"next: babysit skill --host {host} --force" in kept.stderr
    assert r"-mine \x1b[2J" in kept.stderr and "\x1b" not in kept.said
    assert skill.read_bytes() == written + b"mine \x1b[2J\n"
    assert home.run("skill", "--host", host, "--force").returncode == 0
    assert skill.read_bytes() == written
    assert not home.state.exists(), "it has nothing to do with the ledger"


def test_a_host_that_nobody_knows_is_refused_and_a_folder_that_is_not_there(home):
    assert home.run("skill", "--host", "emacs").returncode == 2
    assert home.run("skill").returncode == 2
    assert home.run("skill", "--host", "claude", "gone").returncode == 3
    assert list(home.home.iterdir()) == [home.home / ".ssh"]
