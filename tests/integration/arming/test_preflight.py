import os
import subprocess
import threading
import time

import msgspec
import pytest
from small_box import SHELLS, NoisyLink, SmallBox, small_path

from fleet.arming.ask import ask
from fleet.arming.preflight import preflight
from fleet.arming.preflight_rules import refusals, warnings
from fleet.errors import BoxRefused, ProbeUnreadable, UsageError
from fleet.link.local import LocalLink
from fleet.model.spec import BoxSpec, RunSpec, Stage

pytestmark = pytest.mark.timeout(180)
BOX = BoxSpec("gpu1", "gpu1.example")
RUN = RunSpec("train", (Stage("train", "python train.py"),))
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and other users need root")


def look(box, *, spec=BOX, link=None, onbox_name="onbox-0.pyz", limit_s=120, **more):
    return preflight(
        link or box.link(), box=spec, run_name="train", onbox_name=onbox_name, limit_s=limit_s, **more
    )


@pytest.fixture(params=SHELLS)
def any_box(request, tmp_path):
    return SmallBox(tmp_path / "box", small_path(tmp_path / "bin", shell=request.param)).patient()


def test_one_visit_reports_all_of_it_under_every_shell(any_box):
    began = time.monotonic()
    report = look(any_box, cwd="~")
    took_s = time.monotonic() - began
    assert report.home == str(any_box.home)
    assert report.state_dir == str(any_box.state)
    assert (report.state_error, report.lock_error) == (None, None)
    assert report.free_bytes > 0
    assert report.state_fs == report.lock_fs != "unknown"
    assert (report.cwd, report.cwd_there) == (str(any_box.home), True)
    assert report.uid == os.geteuid()
    assert len(report.box_id) == 32
    assert abs(report.skew_s) < took_s + 1
    assert report.noise_bytes == 0
    for tool in (
        "sh",
        "bash",
        "setsid",
        "flock",
        "perl",
        "timeout",
        "python",
        "boot_id",
        "arch",
        "os",
        "tmux",
    ):
        assert getattr(report, tool), tool
    assert refusals(report, RUN, BOX) == ()


def test_the_state_folder_is_private_and_the_box_keeps_its_id(any_box):  # S36 S37
    first, second = look(any_box), look(any_box)
    assert first.box_id == second.box_id == (any_box.state / "box").read_text().strip().removeprefix("id=")
    assert {path.name for path in any_box.state.iterdir()} == {"box", "names", "runs"}
    assert any_box.state.stat().st_mode & 0o777 == 0o700
    assert (any_box.state / "box").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("without", "attribute"),
    [
        ("python3", "python"),
        *((name, name) for name in ("tmux", "flock", "bash", "timeout", "setsid", "perl")),
    ],
)
def test_a_tool_that_is_not_there_is_none_and_nothing_else_is_missing(tmp_path, without, attribute):  # R23
    full = look(SmallBox(tmp_path / "a", small_path(tmp_path / "bin-a")).patient())
    box = SmallBox(tmp_path / "b", small_path(tmp_path / "bin-b", without=(without,)))
    report = look(box if without == "timeout" else box.patient())
    missing = {
        name
        for name in ("tmux", "flock", "bash", "timeout", "setsid", "perl", "python")
        if getattr(full, name) and not getattr(report, name)
    }
    assert missing == {attribute}


def test_a_box_with_nothing_but_sh_says_so(tmp_path):
    bare = small_path(
        tmp_path / "bin", without=("bash", "flock", "perl", "python3", "setsid", "timeout", "tmux")
    )
    report = look(SmallBox(tmp_path / "box", bare))
    assert report.lock_tool is None
    assert [error.what[:21] for error in refusals(report, RUN, BOX)] == ["no tool to take locks"]
    assert len(warnings(report, RUN, BOX)) == 5  # tmux and setsid, python, bash, timeout, GPU


def test_a_timeout_that_knows_no_k_is_none(tmp_path):
    """As busybox had it for years: the box is asked without it, and the remark is made."""
    box = SmallBox(tmp_path / "box")
    box.program("timeout", '#!/bin/sh\n[ "$1" != -k ] || exit 1\nexec /usr/bin/timeout "$@"\n')
    report = look(box)
    assert (report.box_id is None, report.timeout, report.free_bytes is None) == (False, None, False)
    assert any(text.startswith("no timeout") for text in warnings(report, RUN, BOX))


def test_an_old_python_is_passed_over_for_a_new_one(tmp_path):
    box = SmallBox(tmp_path / "box", small_path(tmp_path / "bin", without=("python3",))).patient()
    box.program("python3", "#!/bin/sh\necho 3.7.9 /usr/bin/python3.7\nexit 1\n")
    box.program("python3.9", "#!/bin/sh\necho 3.9.18 /opt/py39/bin/python3.9\n")
    report = look(box)
    assert (report.python_version, report.python) == ("3.9.18", "/opt/py39/bin/python3.9")


def test_gpus_are_listed_by_name(tmp_path):
    box = SmallBox(tmp_path / "box").patient()
    box.program("nvidia-smi", "#!/bin/sh\nprintf 'NVIDIA H100\\nNVIDIA H100\\n'\n")
    assert look(box).gpus == ("NVIDIA H100", "NVIDIA H100")


@pytest.mark.parametrize("without", [(), ("timeout",)])
def test_a_hanging_nvidia_smi_costs_five_seconds_and_no_more(tmp_path, without):
    box = SmallBox(tmp_path / "box", small_path(tmp_path / "bin", without=without))
    box.program("nvidia-smi", "#!/bin/sh\nexec sleep 600\n")
    report = look(box)
    assert report.gpus is None
    assert 4 < report.took_s < 110


def test_a_noisy_login_shell_is_ignored_and_counted(tmp_path):
    noise = b"Welcome to gpu1!\nbabysit-frame 1 0123 7 99\nbash: warning: setlocale\n"
    box = SmallBox(tmp_path / "box")
    report = look(box, link=NoisyLink(box.link(), noise, b"logout\n"))
    assert report.noise_bytes == len(noise)
    assert report.home == str(box.home)
    assert any("login shell" in text for text in warnings(report, RUN, BOX))


def test_parallel_visits_agree_on_one_box_id(tmp_path):
    box = SmallBox(tmp_path / "box")
    ids = []
    threads = [threading.Thread(target=lambda: ids.append(look(box).box_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert {path.name for path in box.state.iterdir()} == {"box", "names", "runs"}


def test_a_damaged_box_id_is_reported_never_replaced(tmp_path):
    box = SmallBox(tmp_path / "box")
    look(box)
    (box.state / "box").write_text("id=zz\n")
    report = look(box)
    assert report.box_id is None
    assert (box.state / "box").read_text() == "id=zz\n"
    assert [error.what[:26] for error in refusals(report, RUN, BOX)] == ["the box's own id is damage"]


def test_moved_state_and_locks_are_used_and_private(tmp_path):
    box = SmallBox(tmp_path / "box")
    spec = msgspec.structs.replace(BOX, state_dir=str(tmp_path / "vol ume/st"), lock_dir="~/locks")
    report = look(box, spec=spec)
    assert (report.state_dir, report.lock_dir) == (str(tmp_path / "vol ume/st"), str(box.home / "locks"))
    assert (box.home / "locks").stat().st_mode & 0o777 == 0o700
    assert not box.state.exists()


def test_a_state_folder_that_cannot_be_made_is_said_in_the_boxs_words(tmp_path):
    (tmp_path / "file").write_text("")
    report = look(
        SmallBox(tmp_path / "box"), spec=msgspec.structs.replace(BOX, state_dir=str(tmp_path / "file/st"))
    )
    assert "ot a directory" in report.state_error
    assert any("cannot write the state folder" in error.what for error in refusals(report, RUN, BOX))


@root_only
def test_a_state_folder_of_another_user_is_refused(tmp_path):  # S36
    box = SmallBox(tmp_path / "box")
    box.state.mkdir(parents=True)
    os.chown(box.state, 65534, 65534)
    report = look(box)
    assert "belongs to another user" in report.state_error
    assert list(box.state.iterdir()) == []


@root_only
@pytest.mark.parametrize(("option", "words"), [("size=64k", "disk full"), ("nr_inodes=8", "no inodes left")])
def test_a_full_disk_and_no_inodes_are_refused_with_the_figure(tmp_path, option, words):
    home = tmp_path / "small"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "small", str(home)], check=True)
    try:
        box = SmallBox(home)
        if words == "disk full":
            (home / "ballast").write_bytes(b"x" * 60 * 1024)
        else:
            for number in range(7):
                (home / str(number)).touch()
        report = look(box)
        found = [error for error in refusals(report, RUN, BOX) if error.what.startswith(words)]
        assert len(found) == 1
        assert "free" in found[0].what
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


def test_the_cwd_is_looked_for_on_the_box(tmp_path):
    box = SmallBox(tmp_path / "box").patient()
    (box.home / "job").mkdir()
    there, gone = look(box, cwd="~/job"), look(box, cwd="job/$(touch x)")
    assert (there.cwd, there.cwd_there) == (str(box.home / "job"), True)
    assert (gone.cwd, gone.cwd_there) == (str(box.home / "job/$(touch x)"), False)
    assert list((box.home / "job").iterdir()) == []


def test_the_names_owner_is_reported(tmp_path):
    box = SmallBox(tmp_path / "box")
    assert look(box).owner is None
    (box.state / "names/train").symlink_to("train-k3f9")
    assert look(box).owner == "train-k3f9"


@pytest.mark.parametrize("text", ["../../etc", "-rf", "a b", "a\nb", "x" * 65])
def test_a_name_that_points_at_no_run_id_is_unreadable(tmp_path, text):  # S16
    box = SmallBox(tmp_path / "box")
    look(box)
    (box.state / "names/train").symlink_to(text)
    with pytest.raises(ProbeUnreadable, match="no run id"):
        look(box)


def test_owners_that_go_round_in_a_circle_are_unreadable(tmp_path):
    box = SmallBox(tmp_path / "box")
    look(box)
    for name, text in (("train", "a"), (".after-a", "b"), (".after-b", "a")):
        (box.state / "names" / name).symlink_to(text)
    with pytest.raises(ProbeUnreadable, match="circle"):
        look(box)


def test_skew_is_box_clock_minus_ours(tmp_path):
    box = SmallBox(tmp_path / "box")
    box.program("date", '#!/bin/sh\nexec /bin/date -d "+3600 seconds" "$@"\n')
    began = time.monotonic()
    assert abs(look(box).skew_s - 3600) < time.monotonic() - began + 1


def test_a_box_without_home_is_refused_in_words(tmp_path):
    with pytest.raises(BoxRefused, match="HOME is not set"):
        look(SmallBox(tmp_path / "box"), link=LocalLink(env={"PATH": "/usr/bin:/bin"}))


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a/b", "a b", "$(x)", "a;b", "a\nb", "é", "x" * 65])
def test_a_name_that_is_none_is_never_sent(tmp_path, name):  # S16
    box = SmallBox(tmp_path / "box")
    with pytest.raises(UsageError):
        preflight(box.link(), box=BOX, run_name=name, onbox_name="onbox-0.pyz", limit_s=10)
    assert not box.state.exists()


@pytest.mark.parametrize("name", ["", "-", ".", "..", "-x", "a/b", "a b", "$(touch x)", "a;b", "é", "x" * 65])
@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_itself_refuses_such_a_name_too(tmp_path, name, shell):  # S16
    box = SmallBox(tmp_path / "box", small_path(tmp_path / "bin", shell=shell))
    pairs = [("act", "run"), ("state", "-"), ("run", name)]
    with pytest.raises(ProbeUnreadable, match="not a run name"):
        ask(box.link(), ("frame", "ground", "read_run"), pairs, where="x", limit_s=60)


def test_a_cut_request_does_nothing(tmp_path):
    from fleet.text.templates import box_script

    box = SmallBox(tmp_path / "box")
    reply = box.link().run(box_script("frame", "ground", "preflight"), b"frame 00\nrun train\n", limit_s=60)
    assert reply.status == 65
    assert not box.state.exists()
