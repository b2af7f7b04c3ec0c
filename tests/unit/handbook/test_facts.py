"""Facts hold what a handbook says, no secret, and no name that could pass for something else."""

import shlex

import msgspec
import pytest

from babysit.acts.adopt import box_at
from handbook.commands import adopt
from handbook.facts import portable


def test_no_secret_of_the_run_is_among_the_facts(make):  # R106
    run = make.run()
    told = msgspec.json.encode(make.facts(run)).decode()
    assert run.nonce not in told
    assert run.tag not in told


def test_stages_are_named_as_the_box_names_their_files(make):
    assert [stage.file for stage in make.facts().stages] == ["01-prepare", "02-train", "03-eval"]


@pytest.mark.parametrize(
    "name", ["-oProxyCommand=x", "a b", "$(id)", "a/b", "../x", "", "a\nb", "a\u202eb", "`id`"]
)
@pytest.mark.parametrize("where", ["run_id", "spec_name", "box_name", "chain"])
def test_a_name_that_is_none_is_refused(where, name, make):  # S16
    with pytest.raises(ValueError, match="not a name"):
        make.facts(make.run(**{where: name}))


def test_a_stage_name_that_is_none_is_refused(make):  # S16
    stages = make.run().spec.stages
    with pytest.raises(ValueError, match="not a name"):
        make.facts(make.run(spec_stages=(msgspec.structs.replace(stages[0], name="a;b"),)))


@pytest.mark.parametrize("part", ["-oProxyCommand=x", "a b", "a\nb", "", "@there"])
@pytest.mark.parametrize("where", ["host", "user", "fingerprint"])
def test_an_address_that_could_be_an_option_is_refused(where, part, make):  # S21
    with pytest.raises(ValueError, match="address"):
        make.facts(**{where: part})


def test_a_user_of_a_directory_may_have_an_at_sign(make):
    words = shlex.split(adopt(make.facts(user="mia@corp.example")))
    box = box_at(words[words.index("--at") + 1], name="gpu1", identity=None, state_dir=None)
    assert (box.user, box.host, box.port) == ("mia@corp.example", "203.0.113.7", 41022)


@pytest.mark.parametrize(
    ("path", "home", "expected"),
    [
        ("/home/mia/.ssh/id", "/home/mia", "~/.ssh/id"),
        ("/home/mia/.ssh/id", "/home/mia/", "~/.ssh/id"),
        ("/home/miamax/id", "/home/mia", "/home/miamax/id"),
        ("/keys/id", "/home/mia", "/keys/id"),
        ("~/.ssh/id", "/home/mia", "~/.ssh/id"),
        ("/keys/id", "", "/keys/id"),
        ("/keys/id", "/", "/keys/id"),
        ("/keys/id", None, "/keys/id"),
    ],
)
def test_a_key_under_the_home_is_named_from_there(path, home, expected):
    assert portable(path, home) == expected
