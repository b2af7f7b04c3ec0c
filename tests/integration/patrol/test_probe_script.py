import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.patrol.hand_box import BOX_ID, SCRIPT, SHELLS, HandBox, answer, boot_id, probed, tagged
from waiting import wait_until

from fleet import clock
from fleet.link.base import PROBE_MAX_BYTES
from fleet.model.probe import Locks
from fleet.model.reading import Known, Missing
from fleet.model.verdict import Health
from fleet.text.frame import request, sections
from fleet.text.templates import box_script
from patrol.decide import decide
from patrol.history import History, fold
from patrol.readers import read_probe

pytestmark = pytest.mark.timeout(240)
every_shell = pytest.mark.parametrize("shell", SHELLS)


@pytest.fixture
def box(tmp_path):
    return HandBox(tmp_path)


def facts_of(box, hand, **how):
    return probed(box, [hand], **how).runs[hand.run.run_id]


def verdict_of(box, hand, history=None, **how):
    seen = probed(box, [hand], **how)
    history = fold(history or History(), hand.run, seen, clock.now())
    return decide(hand.run, seen, history, clock.now()), history


@every_shell
def test_a_probe_brings_back_what_lies_on_the_box(box, shell):  # R35
    hand = box.run(artifacts=("ck/*.pt",))
    hand.attempt(2, ago_s=500)
    hand.marker(attempt=1)
    hand.log.write_bytes(b"Epoch 3/9\n")
    (box.home / "work/ck").mkdir()
    (box.home / "work/ck/a b.pt").write_bytes(b"12345")
    with hand.held("chain", "stage"):
        seen = probed(box, [hand], interpreter=shell, gpu=True)
    run = seen.runs[hand.run.run_id]
    assert run.exists.value is True
    assert run.attempt.value.number == 2
    assert run.attempt.value.boot == boot_id()
    assert run.end.value is None
    assert [marker.stage for marker in run.markers.value] == ["01-train"]
    assert run.locks.value == Locks(chain_held=True, stage_held=True)
    assert run.alive.value == ()
    assert run.log.value.data == b"Epoch 3/9\n"
    assert [(item.path, item.size_bytes) for item in run.artifacts.value] == [("ck/a b.pt", 5)]
    assert seen.box.box_id.value == BOX_ID
    assert seen.box.boot_id.value == boot_id()
    assert abs(seen.skew_s) < 60
    assert 0 < seen.box.disks.value[0].used_pct <= 100
    assert [disk.path for disk in seen.box.disks.value] == ["-", hand.run.spec.cwd]
    assert seen.box.memory.value.used_bytes > 0
    if not shutil.which("nvidia-smi"):
        assert seen.box.gpus == Missing("nvidia-smi is not installed on the box")


@every_shell
def test_a_run_killed_without_a_record_is_seen_as_gone(box, shell):  # D1 R16
    hand = box.run()
    hand.log.write_text("Epoch 3/9\n")
    chain = tagged(hand)
    hand.attempt(pid=chain.pid)
    try:
        wait_until(
            lambda: [item.pid for item in facts_of(box, hand, interpreter=shell).alive.value] == [chain.pid],
            60,
            "the living process was seen, and nothing but it",
        )
        assert verdict_of(box, hand, interpreter=shell)[0].health is Health.RUNNING
    finally:
        chain.kill()
        chain.wait()
    verdict, _ = verdict_of(box, hand, interpreter=shell)
    assert (verdict.row, verdict.exit_code) == ("R-VANISH-1", 10)


@every_shell
def test_a_tagged_process_without_a_chain_is_an_orphan(box, shell):
    hand = box.run()
    hand.attempt(pid=2)
    child = tagged(hand)
    try:
        wait_until(lambda: facts_of(box, hand, interpreter=shell).alive.value, 60, "the process was found")
        verdict, _ = verdict_of(box, hand, interpreter=shell)
        assert verdict.row == "R-ORPHAN-1"
        assert str(child.pid) in verdict.summary
        assert verdict.next == (f"babysit stop gpu1 {hand.run.name}",)
    finally:
        child.kill()
        child.wait()


@every_shell
def test_the_probe_does_not_see_itself_even_when_started_inside_a_run(box, shell, monkeypatch):  # R16 D1
    hand = box.run()
    hand.attempt(pid=2)
    monkeypatch.setenv("BABYSIT_TAG", f"{hand.run.tag}/01-train")
    assert facts_of(box, hand, interpreter=shell).alive.value == ()


@every_shell
def test_locks_are_seen_one_by_one_and_two_who_look_do_not_see_each_other(box, shell):
    hand = box.run()
    for held in ((), ("chain",), ("stage",), ("chain", "stage")):
        with hand.held(*held):
            assert facts_of(box, hand, interpreter=shell).locks.value == Locks(
                chain_held="chain" in held, stage_held="stage" in held
            )
    with hand.held("chain", "stage", how=fcntl.LOCK_SH):
        assert facts_of(box, hand, interpreter=shell).locks.value == Locks(chain_held=False, stage_held=False)


@pytest.mark.parametrize("kept", [("python3",), ("perl",), ()], ids=["python3", "perl", "no tool"])
def test_locks_without_flock(box, tmp_path, kept):
    bare = tmp_path / "bin"
    bare.mkdir()
    needed = [
        "sh",
        "dd",
        "cat",
        "head",
        "tail",
        "cut",
        "sort",
        "stat",
        "df",
        "date",
        "grep",
        "sed",
        "tr",
        "xargs",
        "sleep",
        "timeout",
        "cksum",
        "env",
    ]
    for tool in (*needed, *kept):
        found = next(
            place for place in ("/usr/bin", "/bin") if Path(place, tool).exists()
        )  # no shim of a version manager
        (bare / tool).symlink_to(Path(found, tool))
    hand = box.run()
    hand.attempt()
    with hand.held("chain"):
        found = facts_of(box, hand, path=str(bare)).locks
    if kept:
        assert found.value == Locks(chain_held=True, stage_held=False)
    else:
        assert isinstance(found, Missing)
        assert verdict_of(box, hand, path=str(bare))[0].row == "R-SCAN-1"


def test_five_runs_come_in_one_answer(box):  # R35 P9
    hands = [box.run(f"run{number}", artifacts=("*",)) for number in range(5)]
    for number, hand in enumerate(hands):
        hand.attempt(number + 1)
        hand.log.write_bytes(f"Epoch {number}/9\n".encode() * 20000)
    _, reply, _ = answer(box, hands)
    assert len(reply) <= PROBE_MAX_BYTES
    assert reply.count(b"babysit-frame 1 ") == 1
    seen = probed(box, hands)
    assert [seen.runs[hand.run.run_id].attempt.value.number for hand in hands] == [1, 2, 3, 4, 5]
    assert all(len(seen.runs[hand.run.run_id].log.value.data) == 16384 for hand in hands)


def test_an_answer_that_would_be_too_long_says_so_run_by_run_and_stays_whole(box):  # P9
    hands = [box.run(f"run{number}") for number in range(4)]
    for hand in hands:
        hand.attempt()
        hand.log.write_bytes(b"x" * 99 + b"\n" * 90001)
    pairs = [("state", "-"), *(("run", f"{hand.run.run_id} - 0 80000") for hand in hands)]
    token, reply, _ = answer(box, hands, pairs=pairs)
    found = read_probe(sections(reply, token, where="gpu1"), [hand.run for hand in hands], at=0, took_s=1)
    logs = [found.runs[hand.run.run_id].log for hand in hands]
    assert isinstance(logs[0], Known)
    assert logs[-1] == Missing("run.log had no room in the answer")


def tree(home: Path):
    return {
        str(path.relative_to(home)): (info.st_mode, info.st_size, info.st_mtime_ns, info.st_ino, path.is_file() and path.read_bytes())
        for path in sorted(home.rglob("*"))
        if (info := path.lstat()) or True
    }  # fmt: skip


@every_shell
def test_nothing_is_written_but_visited(box, shell):  # R58
    hand = box.run(artifacts=("*", "/nowhere/*.pt"))
    hand.attempt()
    hand.marker()
    hand.log.write_text("Epoch 1/9\n")
    (hand.folder / "visited").write_text("0\n")
    before, began = tree(box.home), int(time.time())
    probed(box, [hand, box_with_no_folder(hand)], interpreter=shell, gpu=True)
    after = tree(box.home)
    assert began <= int((hand.folder / "visited").read_text()) <= time.time()
    assert {name for name in before | after if before.get(name) != after.get(name)} == {
        str((hand.folder / "visited").relative_to(box.home))
    }


def box_with_no_folder(hand):
    import copy

    import msgspec

    other = copy.copy(hand)
    other.run = msgspec.structs.replace(hand.run, run_id="never-0000")
    return other


def test_a_missing_run_folder_is_answered_with_no(box):
    seen = probed(box, [box_with_no_folder(box.run())])
    assert seen.runs["never-0000"].exists.value is False


def test_visited_that_is_no_plain_file_neither_blocks_nor_is_written(box):
    hand = box.run()
    os.mkfifo(hand.folder / "visited")
    assert facts_of(box, hand, limit_s=60).exists.value is True


@every_shell
def test_only_new_bytes_of_the_log_come(box, shell):  # R42 R32
    hand = box.run()
    hand.attempt()
    with hand.held("chain"):
        hand.log.write_bytes(b"Epoch 1/9\nEpoch 2/9\n")
        _, history = verdict_of(box, hand, interpreter=shell)
        with hand.log.open("ab") as log:
            log.write(b"Epoch 3/9\n")
        slice_ = facts_of(box, hand, interpreter=shell, histories={hand.run.run_id: history}).log.value
    assert (slice_.start, slice_.data) == (20, b"Epoch 3/9\n")


def renamed(log):
    log.rename(log.with_suffix(".1"))
    log.write_bytes(b"after the rotation, and longer than it was before\n")


def truncated(log):
    log.write_bytes(b"anew\n")


@pytest.mark.parametrize(
    ("change", "data"),
    [(renamed, b"after the rotation, and longer than it was before\n"), (truncated, b"anew\n")],
)
def test_a_log_that_was_rotated_or_truncated_is_read_from_its_start(box, change, data):  # R32
    hand = box.run()
    hand.attempt()
    hand.log.write_bytes(b"Epoch 1/9\nEpoch 2/9\n")
    _, history = verdict_of(box, hand)
    change(hand.log)
    slice_ = facts_of(box, hand, histories={hand.run.run_id: history}).log.value
    assert (slice_.start, slice_.data) == (0, data)


def read_bytes():
    """What this process, and those that it has waited for, ever read."""
    return int(Path("/proc/self/io").read_text().split()[1])


@every_shell
def test_ten_gigabytes_cost_what_their_end_costs(box, shell):  # R42 P9
    hand = box.run()
    hand.attempt()
    with hand.log.open("wb") as log:
        log.truncate(10 * 1024**3)
        log.seek(0, os.SEEK_END)
        log.write(b"\nEpoch 7/9\n")
    before = read_bytes()
    with hand.held("chain"):
        verdict, history = verdict_of(box, hand, interpreter=shell)
    assert read_bytes() - before < 100_000_000
    assert verdict.progress.index == 7
    assert history.log_size == 10 * 1024**3 + 11


@every_shell
def test_binary_junk_arrives_as_it_is_but_for_nul(box, shell):
    hand = box.run()
    junk = bytes(range(256)) * 40 + b"\x80\x81\x88\xff\\\n'\"$(touch /tmp/x)`\n"
    hand.log.write_bytes(junk)
    slice_ = facts_of(box, hand, interpreter=shell).log.value
    assert slice_.data == junk.replace(b"\0", b"")
    assert slice_.size_bytes == len(junk)


@every_shell
def test_forged_frames_in_a_log_are_only_text(box, shell):  # R21 S39
    hand = box.run()
    hand.attempt()
    forged = b"@ end train 0 5\nhello\n\nbabysit-frame 1 %s 0 4294967295\n\n\nbabysit-end %s\n"
    hand.log.write_bytes(forged % (b"0" * 32, b"0" * 32) * 50)
    run = facts_of(box, hand, interpreter=shell)
    assert run.end.value is None
    assert run.log.value.data.startswith(b"@ end train 0 5\n")


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_a_log_that_is_no_plain_file_does_not_block(box, kind):
    hand = box.run()
    hand.attempt()
    hand.marker()
    if kind == "fifo":
        os.mkfifo(hand.log)
    elif kind == "folder":
        hand.log.mkdir()
    else:
        hand.log.symlink_to("/dev/zero")
    run = facts_of(box, hand, limit_s=60)
    assert run.log == Missing("run.log is not a plain file")
    assert run.attempt.value.number == 1


@pytest.mark.parametrize("name", ["attempt", "end", "nonce", "plan", "markers/01-train", "chain.lock"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_records_that_are_no_plain_files_neither_block_nor_are_believed(box, name, kind):
    hand = box.run()
    hand.attempt()
    place = hand.folder / name
    if place.exists():
        place.unlink()
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")
    run = facts_of(box, hand, limit_s=60)
    assert any(
        isinstance(getattr(run, field), Missing) for field in ("attempt", "end", "locks", "markers", "alive")
    )


def test_progress_bars_are_read_by_their_last_frame(box):  # R42 R147 D14
    hand = box.run()
    hand.attempt()
    hand.log.write_bytes(
        b"".join(b"\r %d%%|###| %d/100 [00:12<00:20, 3.1it/s]" % (n, n) for n in range(95)) * 30
    )
    with hand.held("chain"):
        verdict, _ = verdict_of(box, hand)
    assert (verdict.progress.index, verdict.progress.total, verdict.progress.unit) == (94, 100, "it")


@pytest.mark.parametrize(
    "glob",
    [
        "$(touch hacked)",
        "`touch hacked`",
        "; touch hacked",
        "a b",
        "-rf",
        "*'\"",
        "[",
        "~nobody/*",
        "\\*",
        "* *",
        "x\\",
    ],
)
def test_a_glob_is_data(box, glob):  # S17 R6
    hand = box.run(artifacts=(glob, "real*.pt"))
    work = box.home / "work"
    for name in ("a", "b", "real one.pt", "-rf"):
        (work / name).write_text("x")
    before = sorted(work.iterdir())
    found = facts_of(box, hand).artifacts.value
    assert sorted(work.iterdir()) == before
    assert "real one.pt" in {item.path for item in found}
    assert "a" not in {item.path for item in found}


@given(glob=st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_glob_breaks_the_answer(tmp_path_factory, glob):
    box = HandBox(tmp_path_factory.mktemp("box"))
    hand = box.run(artifacts=(glob,))
    hand.attempt()
    assert facts_of(box, hand).attempt.value.number == 1


@every_shell
def test_the_newest_twenty_artifacts_come_newest_first(box, shell):
    hand = box.run(artifacts=("ck/*", str(box.home / "work/abs*")))
    folder = box.home / "work/ck"
    folder.mkdir()
    now = int(clock.now())
    for number in range(40):
        path = folder / f"step {number}.pt"
        path.write_text("x")
        os.utime(path, (now - number, now - number))
    (folder / "two\nlines").write_text("x")
    (box.home / "work/abs.pt").write_text("x")
    os.utime(box.home / "work/abs.pt", (now + 1, now + 1))
    found = facts_of(box, hand, interpreter=shell).artifacts.value
    assert [item.path for item in found[:2]] == [str(box.home / "work/abs.pt"), "ck/step 0.pt"]
    assert len(found) == 20


def test_a_request_that_was_cut_is_refused(box):
    env = {**os.environ, "HOME": str(box.home)}
    script = box_script(*SCRIPT)
    cut = request("a" * 32, [("state", "-")])[:-4]
    done = subprocess.run(
        ["sh", "-c", script.decode()], input=cut, env=env, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (65, b"")


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "-x", "a b", "x*", "$(id)", "é", "a" * 99])
def test_a_run_id_that_is_none_is_not_looked_for(box, run_id):
    token, reply, _ = answer(box, [], pairs=[("state", "-"), ("run", f"{run_id} - 0 100")])
    assert {section.run_id for section in sections(reply, token, where="x")} == {None}


def test_waiting_ends_with_the_chain_and_shows_its_end(box):  # R18
    hand = box.run()
    hand.attempt()
    import threading

    with hand.held("chain", "stage") as _:
        _, _, took_s = answer(box, [hand], wait=(hand.run.run_id, 2))
        assert took_s >= 0.9  # it counts in whole seconds of the clock: the first of them may be short
    done = []
    lock = hand.held("chain", "stage")
    lock.__enter__()
    waiter = threading.Thread(target=lambda: done.append(probed(box, [hand], wait=(hand.run.run_id, 55))))
    waiter.start()
    hand.end()
    lock.__exit__(None, None, None)
    waiter.join(45)
    assert done, "the wait ended when the lock was free"
    assert done[0].runs[hand.run.run_id].end.value.state == "done"


def fake_smi(tmp_path, body):
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "nvidia-smi").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_gpus_are_read_and_a_hung_tool_costs_five_seconds(box, tmp_path):  # R44
    hand = box.run()
    path = fake_smi(tmp_path, "echo '0, NVIDIA H100, 94, 70000, 81559'")
    late, seen = Missing("nvidia-smi did not answer in its time"), []
    wait_until(
        lambda: seen.append(probed(box, [hand], gpu=True, path=path).box.gpus) or seen[-1] != late,
        60,
        "it in time",
    )
    assert seen[-1].value[0].util_pct == 94.0
    (tmp_path / "fake/nvidia-smi").write_text("#!/bin/sh\nexec sleep 900\n")
    began = clock.monotonic()
    seen = probed(box, [hand], gpu=True, path=path)
    assert seen.box.gpus == late
    assert seen.runs[hand.run.run_id].exists.value is True
    assert 4 < clock.monotonic() - began < 60


def test_a_foreign_nonce_is_not_believed(box):  # R62 S39
    hand = box.run()
    hand.attempt()
    hand.end(nonce="f" * 32)
    verdict, _ = verdict_of(box, hand)
    assert verdict.row == "R-RECORD-1"
    hand.end()
    assert verdict_of(box, hand)[0].row == "R-FINISH-1"


def test_it_goes_through_a_link_as_well(box):
    hand = box.run()
    hand.attempt()
    with box.link() as link:
        reply = link.run(
            box_script(*SCRIPT),
            request("a" * 32, [("state", "-"), ("run", f"{hand.run.run_id} - 0 99")]),
            limit_s=60,
        )
    assert reply.status == 0
    found = read_probe(
        sections(reply.stdout, "a" * 32, where="x"), [hand.run], at=clock.now(), took_s=reply.took_s
    )
    assert found.runs[hand.run.run_id].attempt.value.number == 1
