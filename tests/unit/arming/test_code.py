"""What code a run is said to start with, and what is said of a change: pure, as tables."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.arming.ask import Answer
from fleet.arming.code import (
    CODE_BYTES_MAX,
    code_changes,
    code_pairs,
    code_remarks,
    code_says,
    compared,
    decode_code,
    encode_code,
    read_code,
    script_words,
)
from fleet.model.run import Code, CodeFile
from fleet.model.spec import RunSpec, Stage
from fleet.text.frame import Section

A, B = "3f9c" + "0" * 60, "77aa" + "1" * 60
C1, C2 = "9e1c7aa" + "0" * 33, "02bd1c1" + "0" * 33


def spec(*commands, **fields):
    return RunSpec("train", tuple(Stage(f"s{n}", text) for n, text in enumerate(commands)), **fields)


def code(files=(("train.py", A),), *, commit=C1, dirty=False, attempt=1, **more):
    made = tuple(
        CodeFile(path, f"sha256:{digest}" if digest else None, why="large") for path, digest in files
    )
    return Code(attempt, "/home/dev", commit=commit, dirty=dirty, files=made, hasher="sha256sum", **more)


WORDS = [
    (("python train.py --epochs 3",), {}, "~", {"python", "train.py", "3"}),
    (("python train.py --config=conf/a.yaml,b.yaml | tee out.txt",), {}, "~", {"train.py", "conf/a.yaml", "b.yaml"}),
    (("cd ~/proj && python train.py",), {}, "~/proj", {"train.py"}),
    (("cd '~/my proj' && sh run.sh",), {}, "~/my proj", {"run.sh"}),
    (("cd sub; sh run.sh",), {"cwd": "/data"}, "/data/sub", {"run.sh"}),
    (("./run.sh", "cd deep && sh b.sh"), {"cwd": "/data"}, "/data", {"./run.sh", "/data/deep/b.sh"}),
    (("cd deep && sh a.sh", "sh b.sh"), {}, "deep", {"a.sh", "~/b.sh"}),
    (("python ~/x/y.py /opt/z.py",), {"cwd": "/data"}, "/data", {"~/x/y.py", "/opt/z.py"}),
]  # fmt: skip


@pytest.mark.parametrize(("commands", "fields", "folder", "named"), WORDS)
def test_the_words_of_a_command_that_can_be_files_are_asked_for(commands, fields, folder, named):
    job = spec(*commands, **fields)
    assert code_pairs(job)[0] == ("codedir", folder)
    assert named <= set(script_words(job))


@pytest.mark.parametrize(
    "word", ["-rf", "--config", "$(id)", "`id`", "*.py", "a\nb", "-oProxyCommand", "$HOME/x.py"]
)
def test_what_is_no_plain_path_is_never_asked_for(word):  # S16
    assert word not in script_words(spec(f"python {word}"))


@given(st.text(max_size=300))
def test_whatever_a_command_holds_each_request_stays_on_its_line(command):
    for key, value in code_pairs(spec(f"x{command}", code=("src/*.py",))):
        assert "\n" not in key + value


def test_a_long_command_is_asked_for_its_files_first_and_not_without_end():
    words = " ".join(f"word{n}" for n in range(500))
    found = script_words(spec(f"{words} python train.py"))
    assert found[0] == "train.py" and len(found) == 100


CHANGES = [
    (code(), code(), ()),
    (code(), code((("train.py", B),)), ("train.py changed since attempt 1: 3f9c… → 77aa…",)),
    (code(attempt=4), code((("train.py", B),)), ("train.py changed since attempt 4: 3f9c… → 77aa…",)),
    (code(), code(commit=C2, dirty=True), ("git 9e1c7aa → 02bd1c1 (dirty)",)),
    (code(), code(commit=C2), ("git 9e1c7aa → 02bd1c1 (clean)",)),
    (code(), code(dirty=True), ("git 9e1c7aa: clean → dirty",)),
    (code(dirty=True), code(), ("git 9e1c7aa: dirty → clean",)),
    (code(dirty=None), code(), ()),  # a state that git did not tell is no change
    (code(), code(commit=None, git_why="no git repository"), ("git 9e1c7aa (clean) → no git repository",)),
    (code(), code(()), ("train.py is gone since attempt 1",)),
    (code(()), code(), ("train.py is new since attempt 1",)),
    (code(()), code(globs=("*.py",)), ()),  # asked for since: nobody knows whether it is new
    (code(), code((("train.py", None),)), ("train.py cannot be compared with attempt 1: large",)),
    (code((("a", A), ("b", A))), code((("a", B), ("b", B))), ("a changed since attempt 1: 3f9c… → 77aa…", "b changed since attempt 1: 3f9c… → 77aa…")),
]  # fmt: skip


@pytest.mark.parametrize(("then", "now", "said"), CHANGES)
def test_each_change_is_said_in_its_words(then, now, said):
    assert code_changes(then, now) == said


def test_other_tools_cannot_be_compared_and_that_is_said():
    weak = msgspec.structs.replace(code(), files=(CodeFile("train.py", "cksum:12-34"),), hasher="cksum")
    assert code_changes(code(), weak) == (
        "train.py cannot be compared with attempt 1: sha256 then, cksum now",
    )
    assert "by cksum" in code_says(weak)


def test_many_changes_are_cut_and_counted():
    many = [(f"f{n}.py", A) for n in range(40)]
    found = code_changes(code(many), code([(path, B) for path, _ in many]))
    assert len(found) == 13 and found[-1] == "and 28 more"


def test_the_same_code_is_said_to_be_the_same():  # a fix that was committed elsewhere is not on the box
    news = compared(code(attempt=2), code())
    assert (news.changed, news.says) == (False, ("as at attempt 2: git 9e1c7aa (clean), 1 file hashed",))
    assert compared(code(), code(commit=C2)).changed is True
    assert compared(None, code()).changed is None and compared(code(), None).changed is None


def test_one_line_says_what_code_it_is():
    assert code_says(code()) == "git 9e1c7aa (clean), 1 file hashed"
    assert (
        code_says(code((), dirty=True, left_out=7)) == "git 9e1c7aa (dirty), 0 files hashed, 7 more were not"
    )
    assert code_says(code(commit=None, git_why="no git on the box")).startswith("no git on the box, ")
    assert code_remarks(code((("big.bin", None), ("a.py", A)))) == ("big.bin large",)


def test_names_from_a_box_act_on_no_screen():  # S23
    odd = code((("\x1b]52;c;x\x07\u202e.py", A),))
    said = [*code_changes(odd, code(())), *code_remarks(code((("\x1b[2J", None),)))]
    assert said and not any("\x1b" in line or "\u202e" in line for line in said)


def an_answer(**sections):
    statuses = {name: (value if isinstance(value, tuple) else (0, value)) for name, value in sections.items()}
    return Answer(
        tuple(Section(name, "-", status, text.encode()) for name, (status, text) in statuses.items()),
        0,
        0.1,
        "gpu1",
    )


def test_an_answer_is_read_and_what_is_odd_in_it_is_no_digest():
    lines = (
        f"sha256:{A} train.py\nlarge data.bin\nsha256:xyz bad.py\nnone src/*.py\nmore 3\ncksum:1-2 a b.py\n"
    )
    found = read_code(
        an_answer(code_dir="/home/dev", git=f"{C1} dirty", hasher="sha256sum", code_files=lines), spec("x")
    )
    assert (found.commit, found.dirty, found.left_out) == (C1, True, 3)
    assert [(file.path, file.digest) for file in found.files] == [
        ("train.py", f"sha256:{A}"), ("data.bin", None), ("bad.py", None), ("src/*.py", None), ("a b.py", "cksum:1-2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("git", "why"),
    [
        ((1, ""), "no git on the box"),
        ((2, ""), "no git repository"),
        ((3, "fatal: detected dubious ownership"), "git failed: fatal: detected dubious ownership"),
        ((0, "HEAD; rm -rf clean"), "git gave no answer"),
    ],
)
def test_no_commit_has_its_reason(git, why):
    found = read_code(an_answer(code_dir="/d", git=git), spec("x"))
    assert (found.commit, found.dirty, found.git_why, found.files) == (None, None, why, ())


def test_a_folder_that_cannot_be_entered_has_no_code():
    assert read_code(an_answer(code_dir=(1, "/gone")), spec("x")) is None


def test_it_is_read_back_as_it_was_written_and_a_younger_key_is_passed_over():
    made = code(globs=("src/*.py",), left_out=2)
    assert decode_code(encode_code(made)) == made
    younger = msgspec.json.encode({**msgspec.to_builtins(made), "signature": {"by": "x"}})
    assert decode_code(younger) == made


def test_too_many_files_are_kept_in_part():
    many = code([(f"{'deep/' * 30}f{n}.py", A) for n in range(600)])
    content = encode_code(many)
    kept = decode_code(content)
    assert len(content) <= CODE_BYTES_MAX
    assert len(kept.files) + kept.left_out == 600 and kept.files == many.files[: len(kept.files)]


GOOD = msgspec.to_builtins(code())


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[" * 70_000, b"null", b" " * (CODE_BYTES_MAX + 1),
        msgspec.json.encode({**GOOD, "attempt": 0}),
        msgspec.json.encode({**GOOD, "attempt": 10**9}),
        msgspec.json.encode({**GOOD, "commit": "\x1b[31m"}),
        msgspec.json.encode({**GOOD, "files": [{"path": "a", "digest": "sha256:zz"}]}),
        msgspec.json.encode({**GOOD, "files": "many"}),
    ],
)  # fmt: skip
def test_a_damaged_record_is_none(content):  # S28
    assert decode_code(content) is None
