"""What cannot be done is said in one breath: the documented code, the thing, and the next command."""

import socket

import pytest
from laptop import SOON_S, Laptop

SPEC = """\
[box.gpu1]
host = "127.0.0.1"
port = {port}

[box.gpu2]
host = "127.0.0.1"
port = {port}

[run.train]
box = "gpu2"

[[run.train.stages]]
name = "train"
command = "true"
"""
MISTAKES = """\
[box.gpu1]
prot = 22
limit_s = "long"

[run.train]
cwd = 7

[[run.train.stages]]
name = "tr ain"

[notfy.phone]
url = "https://example.org/secret"
"""

# What is typed, with which babysit.toml (None: none), the code, what stderr holds, and the next command in it.
CASES = {
    "unknown run": (
        ("arm", "gpu1", "trian"),
        SPEC,
        3,
        ("no run 'trian'", "line 9 has 'train'"),
        "babysit arm gpu1 train",
    ),
    "unknown run and no file": (
        ("arm", "gpu1", "train"),
        None,
        3,
        ("no babysit.toml",),
        "babysit arm gpu1 train -- COMMAND",
    ),
    "a run that was never armed": (
        ("watch", "gpu1", "train"),
        SPEC,
        3,
        ("no run 'train' on gpu1",),
        "babysit status",
    ),
    "a run of another box": (
        ("arm", "gpu1", "train"),
        SPEC,
        2,
        ("belongs to box 'gpu2'",),
        "babysit arm gpu2 train",
    ),
    "a command for a run that has stages": (
        ("arm", "gpu2", "train", "--", "id"),
        SPEC,
        2,
        ("would replace",),
        "babysit arm gpu2 train",
    ),
    "a box that nobody knows": (
        ("arm", "nosuch.invalid", "train", "--", "id"),
        None,
        3,
        ("no box 'nosuch.invalid'",),
        "ssh nosuch.invalid",
    ),
    "a box whose port is closed": (
        ("arm", "gpu2", "train"),
        SPEC,
        11,
        ("gpu2", "nothing listens"),
        "ssh -p {port} 127.0.0.1",
    ),
    "a command that does not exist": (("patorl",), None, 2, ("Did you mean patrol?",), "babysit --help"),
    "an option that does not exist": (("patrol", "--onec"), None, 2, ("--onec",), "babysit patrol --help"),
    "a missing argument": (("arm", "gpu1"), None, 2, ("RUN",), "babysit arm --help"),
    "an option without its value": (
        ("logs", "gpu1", "train", "-n"),
        None,
        2,
        ("'-n'",),
        "babysit logs --help",
    ),
    "an option of the job's without the dashes": (
        ("arm", "gpu1", "train", "sh", "a b.sh", "--epochs", "3"),
        None,
        2,
        ("--epochs", "goes after --"),
        "babysit arm gpu1 train -- sh 'a b.sh' --epochs 3",
    ),
    "an option of ours misspelt": (
        ("arm", "gpu1", "train", "--agian"),
        None,
        2,
        ("--agian",),
        "babysit arm --help",
    ),
    "a --json of the job's": (
        ("arm", "gpu1", "trian", "--spec", "nowhere.toml", "--", "job", "--json"),
        None,
        3,
        ("nowhere.toml",),
        None,
    ),
    "a spec file that is not there": (
        ("arm", "gpu1", "train", "--spec", "nowhere.toml"),
        None,
        3,
        ("nowhere.toml",),
        None,
    ),
    "resume --yes of nothing": (("resume", "--yes"), None, 2, ("name of the run",), "babysit resume"),
    "not an address": (("resume", "train", "--at", "-oProxyCommand=x"), None, 2, ("not an address",), None),
    "results of a run that is not armed": (
        ("results", "gpu1", "train"),
        None,
        3,
        ("nothing is armed",),
        "babysit status",
    ),
}


@pytest.fixture(scope="module")
def closed_port():
    with socket.socket() as held:  # bound and not listening: it refuses, and nobody else can have it
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _laptop(tmp_path, spec, port):
    laptop = Laptop(tmp_path / "laptop", ())
    if spec is not None:
        laptop.spec(spec.replace("{port}", str(port)))
    return laptop


def _refused(done, code, parts, command=None):
    assert done.returncode == code, done.said
    assert done.stdout == "", "prose belongs on stderr"
    assert done.stderr.startswith("babysit: ") and "Traceback" not in done.stderr, done.said
    for part in parts:
        assert part in done.stderr, done.said
    if command is not None:
        assert f"next: {command}" in done.stderr, done.said


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_done_is_said_with_its_code_and_the_next_command(tmp_path, closed_port, case):  # R12
    words, spec, code, parts, command = CASES[case]
    command = command and command.replace("{port}", str(closed_port))
    _refused(_laptop(tmp_path, spec, closed_port).run(*words), code, parts, command)


@pytest.mark.parametrize(
    "case", ["unknown run", "a box whose port is closed", "an option that does not exist"]
)
def test_with_json_the_same_is_one_document_on_stdout(tmp_path, closed_port, case):
    words, spec, code, parts, command = CASES[case]
    command = command.replace("{port}", str(closed_port))
    done = _laptop(tmp_path, spec, closed_port).run(*words, "--json")
    assert (done.returncode, done.json["exit_code"]) == (code, code), done.said
    assert done.json["schema"] == "babysit.error/1" and done.json["ok"] is False
    assert done.json["code"].startswith("BS-")
    assert all(part in done.json["what"] + done.json["where"] for part in parts), done.stdout
    assert any(said.startswith(command) for said in done.json["next"]), done.stdout


NAMES = (
    ";id",
    "$(id)",
    "`id`",
    "-oProxyCommand=id",
    "../x",
    "a b",
    "a\nb",
    "\x1b]52;c;aWQ=\x07",
    "",
    "ä",
    "a/b",
    "x" * 65,
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_means_something_else_is_refused_as_box_and_as_run(tmp_path, name):  # S16 S21 S17
    laptop = _laptop(tmp_path, None, 0)
    for words in (("arm", "--", name, "train", "true"), ("arm", "--", "gpu1", name, "true")):
        laptop.start(*words)
    for child in laptop.children:
        out, err = child.communicate(timeout=SOON_S)
        assert child.returncode == 2 and " name: letters, digits" in err, out + err
        assert out == "" and "\x1b" not in err and "\x07" not in err and "uid=" not in err


def test_broken_toml_is_said_with_its_line(tmp_path):
    done = _laptop(tmp_path, "[box.gpu1]\nhost = gpu1\n", 0).run("arm", "gpu1", "train")
    _refused(done, 2, ("babysit.toml is not valid TOML", "line 2"))


def test_all_mistakes_of_a_spec_are_said_at_once_and_no_secret_with_them(tmp_path):  # S8
    done = _laptop(tmp_path, MISTAKES, 0).run("arm", "gpu1", "train")
    wanted = (
        "box.gpu1.prot",
        "did you mean port?",
        "box.gpu1.limit_s",
        "run.train.cwd",
        "run.train.stages[1].name",
        "run.train.stages[1].command",
        "notfy",
    )
    _refused(done, 2, wanted)
    assert "example.org" not in done.stderr


def test_a_target_that_holds_an_address_is_refused_without_showing_it(tmp_path):  # S8
    done = _laptop(tmp_path, '[notify.phone]\nurl = "https://example.org/canary"\n', 0).run(
        "arm", "gpu1", "train"
    )
    _refused(done, 2, ("notify.phone.url", "env:NAME"))
    assert "canary" not in done.stderr


def test_a_spec_that_others_can_write_is_refused(tmp_path, closed_port):  # S41
    laptop = _laptop(tmp_path, SPEC, closed_port)
    (laptop.home / "babysit.toml").chmod(0o666)
    _refused(laptop.run("arm", "gpu2", "train"), 2, ("can be written by other users", "chmod go-w"))


@pytest.mark.parametrize("words", [("ipc", "gup1.invalid", "peek"), ("trust", "gup1.invalid")], ids=" ".join)
def test_a_box_misspelt_is_told_by_the_nearest_name_that_ssh_knows(tmp_path, words):
    laptop = _laptop(tmp_path, None, 0)
    with (laptop.home / ".ssh/config").open("a") as config:
        config.write("Host gpu1.invalid\n")
    _refused(
        laptop.run(*words),
        3,
        ("no box 'gup1.invalid'", "did you mean gpu1.invalid?"),
        "babysit doctor gpu1.invalid",
    )
