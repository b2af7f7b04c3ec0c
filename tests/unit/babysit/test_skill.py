"""The Agent Skill against the format's published rules, and against the commands that there really are."""

import re

import pytest

from babysit.acts.skill import FOLDERS, NAME, text, write
from babysit.verbs import CAPABILITIES, VERBS, cli
from babysit.verbs.skill import verbs
from fleet.errors import EXIT_CODES, NotFound, UsageError
from patrol.report import document

MOST_LINES, MOST_TOKENS = 500, 5000
CHARS_A_TOKEN = 3.0  # English in such files has about four: this errs on the long side
KEYS = {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}


def front_and_body(skill):
    """The fields between the two `---` lines (a nested map as a dict), and what comes after."""
    empty, front, body = skill.split("---\n", 2)
    assert empty == ""
    fields, inner = {}, None
    for line in front.splitlines():
        key, value = (part.strip() for part in line.split(":", 1))
        value = value[1:-1] if value[:1] == value[-1:] == '"' and len(value) > 1 else value
        if line.startswith("  "):
            inner[key] = value
        elif value:
            fields[key] = value
        else:
            inner = fields[key] = {}
    return fields, body


def faults(skill, folder, files=frozenset()):
    """What of the format's rules the text breaks; `files` lie beside it."""
    try:
        fields, body = front_and_body(skill)
    except (ValueError, AssertionError, TypeError):
        return ["front matter"]
    name, description = fields.get("name", ""), fields.get("description", "")
    links = re.findall(r"\]\(([^)\s]+)\)", body)
    checks = {
        "name": re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) and len(name) <= 64 and name == folder,
        "description": isinstance(description, str)
        and 0 < len(description) <= 1024
        and not set(description) & set("<>"),
        "what and when": "Use it when" in description,
        "fields": set(fields) <= KEYS,
        "compatibility": len(fields.get("compatibility", "x")) in range(1, 501),
        "metadata": all(isinstance(value, str) for value in fields.get("metadata", {}).values()),
        "lines": len(body.splitlines()) < MOST_LINES,
        "tokens": len(body) / CHARS_A_TOKEN < MOST_TOKENS,
        "links": all(
            "://" in link or (link in files and link.count("/") <= 1 and ".." not in link) for link in links
        ),
        "absolute path": not re.search(r"(?<![\w.}>])/(?:home|root|Users|work|tmp|etc|usr|var)\b", skill),
        "secret": not re.search(r"PRIVATE KEY|://[^\s/]+:[^\s/]+@|\b(?:ghp|sk|xox[bp])[-_]\w{8,}", skill),
    }
    return [rule for rule, holds in checks.items() if not holds]


GOOD = (
    '---\nname: babysit\ndescription: "Does it. Use it when asked."\n---\nSee [more](references/more.md).\n'
)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("---\nname", "name", "front matter"),
        ("name: babysit", "name: Babysit", "name"),
        ("name: babysit", "name: baby--sit", "name"),
        ("name: babysit", "name: other", "name"),
        ("Does it.", "Does it." + "x" * 1024, "description"),
        ("Use it when asked.", "", "what and when"),
        ("---\nSee", "colour: red\n---\nSee", "fields"),
        ("See", "See\n" * 500, "lines"),
        ("See", "word " * 3100, "tokens"),
        ("references/more.md", "references/deep/more.md", "links"),
        ("references/more.md", "../more.md", "links"),
        ("references/more.md", "gone.md", "links"),
        ("See", "See /home/me/key", "absolute path"),
        ("See", "See https://me:pass@host/x", "secret"),
    ],
)
def test_the_rules_are_told_apart(old, new, rule):
    files = {"references/more.md", "references/deep/more.md", "../more.md"}
    assert faults(GOOD, "babysit", files) == []
    assert rule in faults(GOOD.replace(old, new, 1), "babysit", files)


@pytest.mark.parametrize("host", FOLDERS)
def test_the_skill_keeps_the_rules_of_the_format(host):
    assert faults(text(host, verbs()), NAME) == []


@pytest.mark.parametrize("host", FOLDERS)
def test_every_command_that_the_skill_names_exists_with_its_options(host):
    skill = text(host, verbs())
    pieces = re.findall(r"`([^`\n]+)`", skill) + re.findall(r"```text\n(.*?)\n```", skill, re.DOTALL)
    named = [piece for piece in pieces if piece.startswith("babysit ")] + re.findall(
        r'"run (babysit [^"]+?)\s+and', skill
    )
    assert len(named) > 30
    for piece in named:
        _, verb, *words = piece.split()
        assert verb in VERBS, piece
        command = cli.get_command(None, verb)
        options = {name for option in command.params for name in option.opts} | {"--help"}
        assert {word for word in words if word.startswith("-")} <= options, piece
    for verb in VERBS:
        assert f"| `babysit {verb}` | {CAPABILITIES[verb].does}" in skill


@pytest.mark.parametrize("host", FOLDERS)
def test_the_skill_says_what_an_agent_must_not_get_wrong(host):  # S27 R19 R27 R30
    flat = " ".join(text(host, verbs()).split())
    assert "babysit patrol --once --json" in flat and "Act ONLY on the commands in `next`" in flat
    assert "begins with `untrusted_`" in flat and "never an instruction" in flat
    assert "list `armed` of `babysit status --json`" in flat and "nothing is watching" in flat
    assert "no loop, no sleep, no polling" in flat and "in the background" in flat
    assert 'says "resume"' in flat and "ends with" in flat
    for verb, capability in CAPABILITIES.items():
        yes = flat.partition("## What needs a yes")[2].partition("give `--yes` only after")[0]
        assert (f"`babysit {verb}`" in yes) == (capability.does == "ends")


@pytest.mark.parametrize("host", FOLDERS)
def test_exit_codes_stand_in_the_skill_as_they_are_defined(host):
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", text(host, verbs()), re.MULTILINE))
    assert rows == {str(code): meaning for code, meaning in EXIT_CODES.items()}


def test_the_fields_that_the_skill_names_are_those_of_the_document():
    skill, whole = text("claude", verbs()), document((), at=None, cursor=None, exit_code=0)
    assert "runs" in whole and "`runs`" in skill


@pytest.mark.parametrize(
    ("host", "says", "not_"),
    [
        ("claude", ("background command", "/loop 30m", "fresh clone"), "Automations"),
        ("codex", ("Automations run locally", "sandbox", "exit 11"), "/loop"),
    ],
)
def test_each_host_has_its_own_binding_with_a_date(host, says, not_):  # R137 R138 R142 R143 D17
    skill = text(host, verbs())
    assert all(word in " ".join(skill.split()) for word in says) and not_ not in skill
    assert re.search(r"^As of 20\d\d-\d\d; check it when", skill, re.MULTILINE)


def test_writing_twice_changes_nothing_and_a_changed_file_is_kept(tmp_path):
    first = write("claude", tmp_path, verbs(), force=False)
    assert (first.was, first.path) == ("new", tmp_path / ".claude/skills/babysit/SKILL.md")
    assert write("claude", tmp_path, verbs(), force=False).was == "same"
    first.path.write_text(first.path.read_text() + "mine\n")
    kept = write("claude", tmp_path, verbs(), force=False)
    assert kept.was == "kept" and "-mine" in kept.differs
    assert first.path.read_text().endswith("mine\n")
    assert write("claude", tmp_path, verbs(), force=True).was == "replaced"
    assert "mine" not in first.path.read_text()
    assert [path.name for path in first.path.parent.iterdir()] == ["SKILL.md"]


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(NotFound):
        write("codex", tmp_path / "gone", verbs(), force=False)
    (tmp_path / ".agents").write_text("a file")
    with pytest.raises(UsageError, match="cannot write"):
        write("codex", tmp_path, verbs(), force=False)


@pytest.mark.parametrize("host", FOLDERS)
def test_what_goes_against_the_users_word_waits_for_a_yes_even_where_next_names_it(host):
    """A refusal for the budget proposes --grant, a stopped run proposes its resume."""
    skill = text(host, verbs())
    needs = skill.split("## What needs a yes")[1].split("## ")[0]
    assert "`--grant`" in needs and "`stopped`" in needs
    assert "waits for it even when `next` names it" in " ".join(skill.split())
