"""Looking at a run's code on a box: every shell and hasher, real repositories, and hostile ones."""

import hashlib
import os
import shutil
import subprocess

import pytest
from small_box import SHELLS, SmallBox, small_path

from fleet.arming.ask import ask
from fleet.arming.code import code_says, encode_code, look_at_code
from fleet.arming.preflight import preflight
from fleet.errors import ProbeUnreadable
from fleet.model.run import Code, Run
from fleet.model.spec import BoxSpec, RunSpec, Stage

BOX = BoxSpec("gpu1", "h")


def a_run(*commands, **fields):
    stages = tuple(Stage(f"s{n}", text) for n, text in enumerate(commands))
    return Run("train-a1", RunSpec("train", stages, **fields), BOX, "0" * 32, "t", "c", "d", 0.0)


def look(box, run):
    return look_at_code(box.link(), run)[0]


def hashes(code):
    return {file.path: (file.digest or file.why).partition(":")[2] or file.why for file in code.files}


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def box(tmp_path):
    return SmallBox(tmp_path / "box").patient()


def git(folder, *words):
    env = {"HOME": str(folder), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    # Nothing of it goes on behind our back.
    named = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "maintenance.auto=false", "-c", "gc.auto=0")
    return subprocess.run(
        ["git", *named, *words], cwd=folder, env=env, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def repo(box):
    """A repository with train.py committed, in the box's ~/proj."""
    folder = box.home / "proj"
    folder.mkdir()
    (folder / "train.py").write_text("print(1)\n")
    git(folder, "init", "-q")
    git(folder, "add", "train.py")
    git(folder, "commit", "-qm", "one")
    return folder


JOB = a_run("python train.py", cwd="~/proj")


@pytest.mark.parametrize("shell", SHELLS)
def test_named_scripts_and_globs_are_hashed_once_under_every_shell(tmp_path, shell):
    box = SmallBox(tmp_path / "box", small_path(tmp_path / "bin", shell=shell)).patient()
    (box.home / "src").mkdir()
    for name in ("train.py", "odd name.py", "-x.py", "src/a.py"):
        (box.home / name).write_text(name)
    (box.home / "weights").write_bytes(b"\0" * 100)
    (box.home / "starter").write_text("#!/bin/sh\n")
    (box.home / "folder.py").mkdir()
    os.mkfifo(box.home / "pipe.py")
    (box.home / "link.py").symlink_to("train.py")
    run = a_run("python train.py weights starter folder.py pipe.py gone.py", code=("*.py", "src/*", "no/*.x"))
    found = look(box, run)
    assert set(hashes(found)) == {
        "train.py", "starter", "odd name.py", "-x.py", "link.py", "src/a.py", "no/*.x",
    }  # fmt: skip
    assert len(found.files) == 7
    assert hashes(found)["no/*.x"] == "matches no file"
    weak = {file.path: file.digest for file in found.files}
    assert weak["link.py"] == weak["train.py"] != weak["src/a.py"]
    assert all(digest.startswith(("cksum:", "sha256:")) for path, digest in weak.items() if path != "no/*.x")


@pytest.mark.parametrize(("tool", "kind"), [("sha256sum", "sha256"), ("shasum", "sha256"), ("openssl", "sha256"), ("cksum", "cksum")])  # fmt: skip
def test_the_first_hasher_there_is_is_used_and_named(tmp_path, tool, kind):
    path = small_path(tmp_path / "bin")
    if tool != "cksum":
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    box = SmallBox(tmp_path / "box", path).patient()
    text = "print('x')\n"
    (box.home / "train.py").write_text(text)
    found = look(box, a_run("python train.py"))
    assert found.hasher == tool
    (file,) = found.files
    assert file.digest.startswith(f"{kind}:")
    if kind == "sha256":
        assert file.digest == f"sha256:{sha(text)}"


def test_a_box_without_git_and_one_without_a_repository_say_so(tmp_path, box):
    bare = SmallBox(tmp_path / "bare", small_path(tmp_path / "bin")).patient()
    assert look(bare, a_run("true")).git_why == "no git on the box"
    assert look(box, a_run("true")).git_why == "no git repository"


def test_a_commit_is_known_with_its_state(box, repo):
    commit = git(repo, "rev-parse", "HEAD").strip()
    clean = look(box, JOB)
    assert (clean.commit, clean.dirty, clean.folder) == (commit, False, str(repo))
    assert code_says(clean) == f"git {commit[:7]} (clean), 1 file hashed"
    (repo / "untracked").write_text("x")
    assert look(box, JOB).dirty is False
    (repo / "train.py").write_text("print(2)\n")
    assert look(box, JOB).dirty is True


def test_the_folder_that_a_command_enters_is_the_one_that_is_looked_at(box, repo):
    found = look(box, a_run("cd ~/proj && python train.py | tee out"))
    assert found.folder == str(repo) and found.commit
    assert hashes(found) == {"train.py": sha("print(1)\n")}


def test_a_repository_without_a_commit_has_gits_own_words(box):
    (box.home / "proj").mkdir()
    git(box.home / "proj", "init", "-q")
    assert look(box, JOB).git_why.startswith("git failed: fatal: ")


def test_nothing_of_a_hostile_repository_is_run(box, repo):  # S18 S29
    """Hooks, monitors, pagers, aliases, filters, diffs, fetches: each would leave its name."""
    trap = box.home / "trap"
    trap.mkdir()
    script = box.home / "evil.sh"
    script.write_text(f'#!/bin/sh\ntouch "{trap}/$1"\ncat\n')
    script.chmod(0o755)
    for hook in ("post-index-change", "fsmonitor-watchman", "reference-transaction", "post-checkout"):
        (repo / ".git/hooks" / hook).write_text(f"#!/bin/sh\ntouch {trap}/{hook}\n")
        (repo / ".git/hooks" / hook).chmod(0o755)
    for key, value in {
        "core.fsmonitor": f"{script} monitor",
        "core.pager": f"{script} pager",
        "pager.status": "true",
        "pager.config": "true",
        "alias.status": f"!{script} alias",
        "alias.rev-parse": f"!{script} alias",
        "filter.evil.clean": f"{script} clean",
        "filter.evil.process": f"{script} process",
        "filter.evil.required": "true",
        "filter.with space.clean": f"{script} clean-two",
        "diff.external": f"{script} diff",
        "diff.evil.textconv": f"{script} textconv",
        "core.sshCommand": f"{script} ssh",
        "core.editor": f"{script} editor",
        "credential.helper": f"!{script} credential",
        "protocol.ext.allow": "always",
        "remote.origin.url": f"ext::{script} fetch",
        "remote.origin.promisor": "true",
        "extensions.partialClone": "origin",
    }.items():
        git(repo, "config", key, value)
    (repo / ".gitattributes").write_text("*.py filter=evil diff=evil\n*.sh filter=with\\ space\n")
    (repo / "train.py").write_text("print(1)\n")  # another time, the same text: status has to compare
    os.utime(repo / "train.py", (1, 1))
    index = (repo / ".git/index").read_bytes()
    found = look(box, JOB)
    assert list(trap.iterdir()) == []
    assert found.commit and found.dirty is False  # and it still gives its answer
    assert (repo / ".git/index").read_bytes() == index
    # The traps are live: git as anybody calls it steps into one.
    subprocess.run(
        ["git", "status"],
        cwd=repo,
        env={"HOME": str(box.home), "PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    )
    assert list(trap.iterdir())


def test_a_missing_object_fetches_nothing(box, repo):
    trap = box.home / "fetched"
    git(repo, "config", "protocol.ext.allow", "always")
    git(repo, "config", "remote.origin.url", f"ext::touch {trap}")
    git(repo, "config", "remote.origin.promisor", "true")
    git(repo, "config", "core.repositoryFormatVersion", "1")
    git(repo, "config", "extensions.partialClone", "origin")
    for path in (repo / ".git/objects").glob("??/*"):
        path.unlink()
    found = look(box, JOB)
    assert found.dirty is None or found.commit is None
    assert not trap.exists()


def test_a_git_that_hangs_costs_its_seconds_and_no_more(box, repo):
    (box.home / ".programs/timeout").unlink()
    box.program("git", "#!/bin/sh\nexec sleep 600\n")
    found = look(box, JOB)
    assert found.git_why == "git failed: no answer in time" and found.files


def test_files_are_hashed_up_to_a_bound_and_the_rest_is_counted(box):
    (box.home / "src").mkdir()
    for number in range(230):
        (box.home / f"src/f{number:03}.py").write_text(str(number))
    with (box.home / "huge.py").open("wb") as file:
        file.truncate(10**10)
    found = look(box, a_run("python huge.py", code=("src/*.py",)))
    assert len(found.files) == 200 and found.left_out == 31
    assert hashes(found)["huge.py"].startswith("too large")


def test_a_glob_is_only_matched_whatever_it_holds(box):  # S17
    (box.home / "a b.py").write_text("x")
    globs = ("$(touch pwned)*", "`touch pwned`", "; touch pwned", "a b.*", "*' ; touch pwned ; '")
    found = look(box, a_run("true", code=globs))
    assert "a b.py" in hashes(found)
    assert not (box.home / "pwned").exists()


def test_the_boxs_own_record_comes_along_and_a_link_or_damage_does_not(box):
    folder = box.state / "runs/train-a1"
    folder.mkdir(parents=True)
    made = Code(3, "/home/dev", commit="a" * 40, dirty=False)
    (folder / "code.json").write_bytes(encode_code(made))
    assert look_at_code(box.link(), a_run("true"))[1] == made
    (folder / "code.json").write_bytes(b"{" * 70_000)
    assert look_at_code(box.link(), a_run("true"))[1] is None
    (folder / "code.json").unlink()
    (folder / "code.json").symlink_to("/etc/passwd")
    assert look_at_code(box.link(), a_run("true"))[1] is None


def test_looking_writes_nothing(box, repo):
    before = sorted((path, path.stat().st_mtime_ns) for path in box.home.rglob("*"))
    look(box, JOB)
    assert sorted((path, path.stat().st_mtime_ns) for path in box.home.rglob("*")) == before


def test_a_run_id_that_is_none_is_refused_by_the_script(box):  # S16
    pairs = [("act", "code"), ("state", "-"), ("id", "../../etc"), ("codedir", "~")]
    with pytest.raises(ProbeUnreadable, match="not a run id"):
        ask(box.link(), ("frame", "ground", "code"), pairs, where="x", limit_s=60)


def test_preflight_brings_the_code_in_its_one_visit_and_dry_it_makes_nothing(box, repo):
    report = preflight(
        box.link(),
        box=BOX,
        run_name="train",
        onbox_name="onbox-0.pyz",
        limit_s=60,
        cwd="~/proj",
        spec=JOB.spec,
        dry=True,
    )
    assert report.code == look(box, JOB)
    assert report.state_error is None and len(report.box_id) == 32
    assert not box.state.exists()
