"""babysit.toml: what is understood, and that every mistake is said at once with its key path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import SpecError, UsageError
from fleet.spec.decode import bare_run, decode, is_name
from fleet.spec.find import load

GOOD = """
[box.gpu1]
host = "203.0.113.7"
port = 2201

[run.train]
box = "gpu1"
cwd = "/workspace/it's here"
artifacts = ["ckpt/*.pt"]

[[run.train.stages]]
name = "prepare"
command = "python prepare.py"
[[run.train.stages]]
name = "train"
command = "python train.py | tee log"
leftovers = "end"

[notify.phone]
url = "env:PHONE_URL"
on = ["page"]
"""

MISTAKES = [
    ("[bocks.a]", "bocks: no such section (did you mean box?)"),
    ("[box.a]\nprot = 22", "box.a.prot: no such key (did you mean port?)"),
    ("[box.a]\nport = 70000", "box.a.port: Expected `int` <= 65535"),
    ("[box.a]\nport = '22'", "box.a.port: Expected `int | null`, got `str`"),
    ("[box.a]\nhost = '-oProxyCommand=x'", "box.a.host: '-oProxyCommand=x' is no host name"),
    ("[box.a]\nhost = '[::1]'", "box.a.host: '[::1]' is no host name (no spaces, brackets or leading dash)"),
    ("[box.'a b']", "box.a b.name: is no name"),
    ("[box.'-a']", "box.-a.name: is no name"),
    ("[run.r]", "run.r.stages: missing (hint: [[run.NAME.stages]]"),
    ("[run.r]\nstages = []", "run.r.stages: needs one or more stages"),
    ("[run.r]\nstages = [{name='x'}]", "run.r.stages[1].command: missing"),
    ("[run.r]\nstages = [{name='x', command=' '}]", "run.r.stages[1].command: is empty"),
    ("[run.r]\nstages = [{name='x;id', command='a'}]", "run.r.stages[1].name: is no name"),
    (
        "[run.r]\nstages = [{name='x', command='a'}, {name='x', command='b'}]",
        "run.r.stages[2].name: 'x' is there twice",
    ),
    (
        "[run.r]\nstages = [{name='x', command='a', leftovers='keep'}]",
        "run.r.stages[1].leftovers: Invalid enum value",
    ),
    (
        "[run.r]\nstages = [{name='x', command='a', monitor='yes'}]",
        "run.r.stages[1].monitor: Expected `bool`, got `str`",
    ),
    (
        "[run.r]\nmonitor = true\nstages = [{name='x', command='a'}]",
        "run.r.monitor: no such key (hint: it belongs to a stage, below [[run.r.stages]])",
    ),
    ("[run.r]\nbudget = 0\nstages = [{name='x', command='a'}]", "run.r.budget: Expected `int` >= 1"),
    ("[run.r]\ncwd = \"a\\nb\"\nstages = [{name='x', command='a'}]", "run.r.cwd: holds a character"),
    ("[run.r]\nartifacts = ['']\nstages = [{name='x', command='a'}]", "run.r.artifacts: an entry is empty"),
    ("[run.r]\nbox = '$(id)'\nstages = [{name='x', command='a'}]", "run.r.box: '$(id)' is no box name"),
    ("[box.b]\nloops = 'data/.ipc'", "box.b.loops: must be an absolute folder of the box, or begin with ~/"),
    ("[box.b]\nloops = ''", "box.b.loops: must be an absolute folder"),
    ('[box.b]\nloops = "/a\\nb"', "box.b.loops: holds a character"),
    ("[box.b]\nloops = 3", "box.b.loops: Expected `str | null`, got `int`"),
    ("[run.r]\ncheckpoint = ' '\nstages = [{name='x', command='a'}]", "run.r.checkpoint: is empty"),
    (
        "[run.r]\ncheckpoint = \"a\\u0000\"\nstages = [{name='x', command='a'}]",
        "run.r.checkpoint: holds a character",
    ),
    (
        "[run.r]\nartifacts = ['a']\ncheckpoint = 'signal:KILL'\nstages = [{name='x', command='a'}]",
        "run.r.checkpoint: 'KILL' is no signal for it (known: USR1",
    ),
    (
        "[run.r]\ncheckpoint = 'signal:USR1'\nstages = [{name='x', command='a'}]",
        "run.r.artifacts: missing; what a signal saves",
    ),
    (
        "[run.r]\ncheckpoint_limit_s = 0\nstages = [{name='x', command='a'}]",
        "run.r.checkpoint_limit_s: Expected `int` >= 1",
    ),
    ("[notify.n]\nurl = 'https://hooks.example/secret'", "notify.n.url: Expected `str` matching regex"),
    ("[notify.n]\nurl = 'file:hook'", "notify.n.url: the file's path must be absolute"),
    ("box = 3", "box: write it as [box.NAME]"),
]


def test_a_whole_file_becomes_frozen_values():
    spec = decode(GOOD, "babysit.toml")
    assert spec.boxes["gpu1"].port == 2201
    assert [stage.name for stage in spec.runs["train"].stages] == ["prepare", "train"]
    assert spec.runs["train"].stages[1].leftovers == "end"
    assert spec.targets["phone"].on == ("page",)
    assert spec.lines["run.train"] == 6


def test_the_line_of_a_section_is_known_however_its_name_is_quoted():
    text = "[box.plain]\n[box.\"with.dot\"]\n[box.'single.dot']\n"
    assert decode(text, "x").lines == {"box.plain": 1, "box.with.dot": 2, "box.single.dot": 3}


def test_a_box_without_a_host_is_an_alias_of_its_own_name():
    assert decode("[box.gpu1]", "x").boxes["gpu1"].host == "gpu1"


@pytest.mark.parametrize(("text", "problem"), MISTAKES)
def test_each_mistake_is_named_with_its_key_path(text, problem):
    with pytest.raises(SpecError) as caught:
        decode(text, "babysit.toml")
    assert any(said.startswith(problem) for said in caught.value.problems), caught.value.problems


def test_an_ipv6_address_is_a_host():
    for host in ("::1", "2001:db8::7", "fe80::1%eth0", "dev@::1"):
        assert decode(f"[box.a]\nhost = '{host}'", "babysit.toml").boxes["a"].host == host


def test_a_typed_command_that_is_no_text_is_refused():
    with pytest.raises(UsageError, match="no UTF-8"):
        bare_run("train", "gpu1", "echo \udcff")


def test_stages_without_a_name_lack_just_that():
    with pytest.raises(SpecError) as caught:
        decode("[run.r]\nstages = [{command='a'}, {command='b'}]", "babysit.toml")
    assert caught.value.problems == ("run.r.stages[1].name: missing", "run.r.stages[2].name: missing")


def test_all_mistakes_are_said_at_once():
    wanted = [problem for text, problem in MISTAKES[:5]]
    with pytest.raises(SpecError) as caught:
        decode("[bocks.a]\n[box.a]\nprot = 22\nport = 70000\nhost='-oProxyCommand=x'", "babysit.toml")
    for problem in (wanted[0], wanted[1], wanted[2], wanted[4]):
        assert any(said.startswith(problem) for said in caught.value.problems), problem


def test_broken_toml_names_its_line():
    with pytest.raises(SpecError) as caught:
        decode("[box.a]\nport = = 3", "babysit.toml")
    assert "line 2" in caught.value.problems[0]


@pytest.mark.parametrize(
    "name",
    [
        ";id",
        "$(id)",
        "`id`",
        "#(id)",
        "a\n",
        "\n",
        "-oProxyCommand=x",
        "../x",
        "a:b",
        "a\u202eb",
        "",
        "a/b",
        "a b",
        ".x",
        "a" * 65,
    ],
)
def test_hostile_names_are_no_names(name):  # S16 S20
    assert not is_name(name)


@given(st.text())
def test_a_name_is_always_one_harmless_word(text):  # S16
    if is_name(text):
        assert text.isascii() and not text.startswith(("-", ".")) and "/" not in text and len(text) <= 64


def test_the_nearest_file_upward_wins_over_the_users(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    user = tmp_path / "user.toml"
    user.write_text("[box.mine]")
    assert "mine" in load(deep, user).boxes
    (tmp_path / "a" / "babysit.toml").write_text("[box.near]")
    assert list(load(deep, user).boxes) == ["near"]
    assert load(tmp_path / "a", user).path == str(tmp_path / "a" / "babysit.toml")


def test_no_file_is_an_empty_spec(tmp_path):
    assert load(tmp_path, tmp_path / "none.toml").path is None


def test_a_file_that_others_may_write_is_refused(tmp_path):  # S41
    (tmp_path / "babysit.toml").write_text("[box.a]")
    (tmp_path / "babysit.toml").chmod(0o666)
    with pytest.raises(SpecError, match="written by other users"):
        load(tmp_path, tmp_path / "none")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "babysit.toml").write_bytes(b"\xff\xfe[box")
    with pytest.raises(SpecError, match="cannot be read"):
        load(tmp_path, tmp_path / "none")
