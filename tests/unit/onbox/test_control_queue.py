# ruff: noqa: ARG005 - a control's form is given
import json
import os
import threading
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onbox.control import RuntimeController, acks, lines, place
from onbox.control.marks import ENDED
from onbox.wire import identity

NOW = time.time()


class Rig:
    """A queue with one control, `count`, that remembers what it was called with."""

    def __init__(self, folder, **options):
        self.folder, self.options, self.got = folder, options, []
        self.start()

    def start(self):
        self.program = RuntimeController(self.folder, **self.options)
        self.program.register("count", lambda ctx, word: self.got.append(word))

    def poll(self, times=1):
        found = []
        for _ in range(times):
            found += self.program.poll_and_apply(None, 0)
        return found

    def give(self, word, **keys):
        return RuntimeController.enqueue(self.folder, "count", [word], **keys)["id"]

    def append(self, content):
        with self.commands.open("ab") as file:
            file.write(content)

    @property
    def commands(self):
        return self.folder / "commands.jsonl"

    def acked(self):
        return [json.loads(line) for line in (self.folder / "acks.jsonl").read_text().splitlines()]

    def left(self):
        return sorted(path.name for path in (self.folder / "onbox").iterdir())


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path / "queue")


def line(word, **keys):
    document = {"id": f"id-{word}", "ts": NOW, "op": "set", "path": "count", "args": [word], "kwargs": {}}
    return json.dumps({**document, **keys}).encode() + b"\n"


RESTING = ["listener.json", "lock", "place.json"]


def test_a_command_is_applied_once_and_acknowledged(rig):
    identity = rig.give(1)
    (ack,) = rig.poll()
    assert ack == rig.acked()[0] and rig.got == [1]
    assert list(ack) == ["id", "ts", "path", "op", "status", "args", "kwargs", "rank", "world", "step"]
    assert ack["id"] == identity and ack["status"] == "applied"
    assert rig.poll(3) == [] and rig.got == [1]
    assert rig.left() == RESTING and rig.program.faults == 0


def test_a_restart_replays_nothing(rig):
    for word in range(5):
        rig.give(word)
    rig.poll()
    for _ in range(3):
        rig.start()
        rig.poll(2)
    rig.give("new")
    rig.start()
    rig.poll()
    assert rig.got == [0, 1, 2, 3, 4, "new"] and len(rig.acked()) == 6


def test_a_restart_without_our_folder_replays_nothing_that_has_an_ack(rig):
    rig.give(1)
    rig.poll()
    for path in (rig.folder / "onbox").iterdir():
        path.unlink()
    rig.give(2)
    rig.start()
    rig.poll()
    assert rig.got == [1, 2]


def test_the_queue_of_another_reader_is_taken_over_where_it_stopped(rig):
    rig.append(line("old") + line("new"))
    (rig.folder / "acks.jsonl").write_text(
        json.dumps({"id": "id-old", "ts": 1, "path": "count", "status": "applied"}) + "\n"
    )
    rig.poll()
    assert rig.got == ["new"]


CUTS = [1, 10, len(line("a")) // 2, len(line("a")) - 1]


@pytest.mark.parametrize("cut", CUTS, ids=["1", "10", "half", "all but the last"])
def test_half_a_line_waits_for_the_other_half(rig, cut):
    rig.append(line("a")[:cut])
    assert rig.poll(2) == [] and rig.got == []
    rig.append(line("a")[cut:] + line("b")[:cut])
    rig.poll(2)
    assert rig.got == ["a"]
    rig.append(line("b")[cut:])
    rig.poll()
    assert rig.got == ["a", "b"] and [ack["status"] for ack in rig.acked()] == ["applied"] * 2


def test_a_line_that_another_writer_left_unfinished_costs_nobody_else_the_command(rig):
    rig.append(b'{"id": "torn", "pa')
    rig.give("mine")
    rig.poll()
    assert rig.got == ["mine"] and [ack["op"] for ack in rig.acked()] == ["invalid", "set"]


def test_more_than_a_batch_is_taken_at_the_next_poll(rig):
    rig.append(b"".join(line(n, path="nobody") for n in range(place.LINES + 3)))
    assert [len(rig.poll()) for _ in range(3)] == [place.LINES, 3, 0]


@pytest.mark.parametrize("extra", [1, 5 << 20])
@pytest.mark.parametrize("whole", [True, False])
def test_a_line_that_is_too_long_is_rejected_and_the_next_one_taken(rig, extra, whole):
    long = b'"' + b"x" * (lines.MAX_LINE + extra)
    tracemalloc.start()
    try:
        rig.append(long + (b"\n" + line("next") if whole else b""))
        said = rig.poll(2)
        if not whole:
            rig.append(b"y" * 100)
            said += rig.poll(2)
            rig.append(b"\n" + line("next"))
        said += rig.poll(4)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    assert [ack.get("error") for ack in said] == ["a line of more than 1048576 bytes", None]
    assert rig.got == ["next"] and rig.poll() == []


def test_a_line_as_long_as_may_be_is_taken(rig):
    room = lines.MAX_LINE - len(line("").rstrip(b"\n"))
    rig.append(line("x" * (room // 2 - 20)))  # the id repeats the word
    rig.poll()
    assert len(rig.got) == 1


def test_a_command_that_is_too_long_is_not_given(rig):
    with pytest.raises(ValueError, match="at most 1048576"):
        rig.give("x" * lines.MAX_LINE)
    assert rig.commands.read_bytes() == b""


def deleted(rig):
    rig.commands.unlink()
    rig.poll(2)
    rig.append(line("b"))


def deleted_between_polls(rig):
    rig.commands.unlink()
    rig.append(line("b"))


def cut_to_nothing(rig):
    rig.commands.write_bytes(b"")
    rig.poll()
    rig.append(line("b"))


def cut_and_regrown_shorter(rig):
    rig.commands.write_bytes(line("b"))


def cut_and_regrown_longer(rig):
    rig.commands.write_bytes(line("c") + line("d") + line("e") + line("b"))
    rig.got_too = ["c", "d", "e"]


def cut_and_regrown_as_long(rig):
    rig.commands.write_bytes(line("b"))
    os.utime(rig.commands, ns=(1, 1))


def replaced_by_an_editor(rig):
    other = rig.commands.with_name("other")
    other.write_bytes(rig.commands.read_bytes() + line("b"))
    other.replace(rig.commands)


def replaced_without_the_old(rig):
    other = rig.commands.with_name("other")
    other.write_bytes(line("b"))
    other.replace(rig.commands)


def folder_deleted(rig):
    for path in sorted(rig.folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    rig.folder.rmdir()
    rig.poll(2)
    RuntimeController.enqueue(rig.folder, "count", ["b"])


CHANGES = [
    deleted, deleted_between_polls, cut_to_nothing, cut_and_regrown_shorter, cut_and_regrown_longer, cut_and_regrown_as_long,
    replaced_by_an_editor, replaced_without_the_old, folder_deleted,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("restart", [False, True])
def test_a_file_that_is_changed_loses_and_repeats_nothing(rig, change, restart):
    rig.got_too = []
    rig.append(line("a"))
    rig.poll(2)
    change(rig)
    if restart:
        rig.start()
    rig.poll(3)
    assert rig.got == ["a", *rig.got_too, "b"]
    assert rig.program.faults == 0, rig.program.last_fault


def test_equal_commands_are_told_apart_when_the_file_is_cut_and_given_them_again(rig):
    rig.append(b"".join(line("same", id=f"id-{n}") for n in range(3)))
    rig.poll(2)
    rig.commands.write_bytes(b"".join(line("same", id=f"id-{n}") for n in range(3, 6)))
    rig.poll(2)
    assert [ack["id"] for ack in rig.acked()] == [f"id-{n}" for n in range(6)]


def test_another_file_with_the_same_end_is_read_from_its_beginning(rig):
    many = [line(f"{n:04}") for n in range(60)]
    rig.append(b"".join(many))
    rig.poll(2)
    other = rig.folder / "other"
    other.write_bytes(b"".join([line("anew"), *many[1:]]))
    other.replace(rig.commands)
    rig.poll(2)
    assert rig.got[60:] == ["anew"]


def test_a_command_without_an_id_is_not_applied_out_of_a_file_that_was_read_before(rig):
    plain = b'{"path":"count","args":["by hand"]}\n'
    rig.append(plain + line("a"))
    rig.poll(2)
    replaced = rig.commands.with_name("other")
    replaced.write_bytes(plain + line("b"))
    replaced.replace(rig.commands)
    rig.start()
    rig.poll(2)
    rig.append(plain)
    rig.poll()
    assert rig.got == ["by hand", "a", "b", "by hand"]
    assert [ack["status"] for ack in rig.acked()] == ["applied", "applied", "rejected", "applied", "applied"]


def test_an_id_is_applied_once_however_often_it_stands_there(rig):
    rig.append(line("a") * 3)
    rig.poll()
    rig.append(line("a"))
    rig.poll()
    assert rig.got == ["a"] and len(rig.acked()) == 1


def test_what_is_older_than_its_limit_is_rejected(rig):
    rig.append(line("old", ts=1.0) + line("own", expires=1.0))
    given = rig.give("fresh", expires=1000)
    rig.poll()
    assert rig.got == ["fresh"]
    assert [ack["status"] for ack in rig.acked()] == ["rejected", "rejected", "applied"]
    assert all("expired: " in ack["error"] for ack in rig.acked()[:2]) and rig.acked()[2]["id"] == given


RAISED = {
    "Exception": (RuntimeError("no"), "no"),
    "one that says nothing": (AssertionError(), "AssertionError"),
    "SystemExit": (SystemExit(3), "the control raised SystemExit(3), which does not end the program"),
    "GeneratorExit": (GeneratorExit(), "GeneratorExit"),
    "a long one": (RuntimeError("x" * 100_000), "x" * lines.ERROR),
}


@pytest.mark.parametrize(("error", "said"), RAISED.values(), ids=RAISED)
@pytest.mark.parametrize("where", ["control", "validator"])
def test_what_a_control_raises_is_acknowledged_and_goes_no_further(rig, error, said, where):
    def raising(*args):
        raise error

    rig.program.register(
        "bad",
        raising if where == "control" else lambda ctx, v: None,
        raising if where == "validator" else None,
    )
    RuntimeController.enqueue(rig.folder, "bad", [1])
    rig.give("after")
    first, second = rig.poll()
    assert (first["status"], first["error"]) == ("failed", said)
    assert second["status"] == "applied" and rig.program.faults == 0


def test_an_interrupt_is_acknowledged_and_goes_on_to_the_program(rig):
    def interrupted(ctx):
        raise KeyboardInterrupt

    rig.program.register("stop", interrupted)
    RuntimeController.enqueue(rig.folder, "stop")
    rig.give("after")
    with pytest.raises(KeyboardInterrupt):
        rig.poll()
    assert [ack["status"] for ack in rig.acked()] == ["failed"]
    rig.poll()
    assert rig.got == ["after"] and rig.left() == RESTING


def test_a_control_that_polls_or_a_second_thread_finds_it_busy(rig):
    inner, entered, leave = [], threading.Event(), threading.Event()

    def polling(ctx):
        inner.append(rig.poll())
        entered.set()
        assert leave.wait(20)

    rig.program.register("polls", polling)
    RuntimeController.enqueue(rig.folder, "polls")
    rig.give("after")
    thread = threading.Thread(target=rig.poll)
    thread.start()
    assert entered.wait(20)
    assert rig.poll() == [] and rig.got == []
    leave.set()
    thread.join()
    assert inner == [[]] and rig.got == ["after"]


def test_two_controllers_of_one_process_share_the_queue(rig):
    second = Rig(rig.folder)
    for word in range(6):
        rig.give(word)
        (rig, second)[word % 2].poll()
    assert rig.got == [0, 2, 4] and second.got == [1, 3, 5]


@pytest.mark.parametrize(
    "torn", [b"", b"{", b"[1]", b'{"format": 1, "offset": -1}', b"\xff" * 100, b"[" * 4000]
)
def test_a_place_that_cannot_be_read_is_the_beginning_and_acks_tell_the_rest(rig, torn):
    rig.give(1)
    rig.poll()
    (rig.folder / "onbox/place.json").write_bytes(torn)
    rig.start()
    rig.give(2)
    rig.poll()
    assert rig.got == [1, 2]


def test_what_a_killed_program_left_is_acknowledged_and_not_applied(rig):
    rig.give(0)
    rig.poll()
    identity = rig.give(1)
    orders = rig.program._queue.orders({"count": 1}, world=2)
    assert next(orders).mark.exists()  # taken, and its place is on disk
    rig.start()
    orders.close()
    rig.poll(2)
    assert rig.got == [0] and rig.left() == RESTING
    assert [
        (ack["id"], ack["status"], ack.get("error"), ack["rank"], ack["world"]) for ack in rig.acked()[1:]
    ] == [(identity, "failed", ENDED, rank, 2) for rank in (0, 1)]


@pytest.mark.parametrize("content", [b"", b"torn", b'{"id": "other"}'])
def test_a_mark_that_says_nothing_still_names_its_command(rig, content):
    (rig.folder / "onbox/id-a.taken").write_bytes(content)
    rig.append(line("a") + line("b"))
    rig.poll()
    name = "other" if b"other" in content else "id-a"
    assert next((ack["id"], ack["status"]) for ack in rig.acked()) == (name, "failed")
    assert rig.got == (["a", "b"] if b"other" in content else ["b"])


def test_a_living_program_keeps_the_queue_and_a_dead_one_does_not(rig):
    rig.give(1)
    listener = rig.folder / "onbox/listener.json"
    other = identity.of(os.getppid())
    said = {**other._asdict(), "host": os.uname().nodename, "since": 1.0, "polled": True, "world": 1}
    listener.write_text(json.dumps(said))
    assert rig.poll(2) == [] and rig.got == []
    assert rig.program.faults == 2 and f"pid {other.pid} takes the commands" in rig.program.last_fault
    listener.write_text(json.dumps({**said, "polled": False}))
    rig.poll()
    assert rig.got == [1]
    rig.give(2)
    rig.start()
    listener.write_text(json.dumps({**said, "start_ticks": 1}))  # the number was given to another since
    rig.poll()
    assert rig.got == [1, 2]


ODD = ["link", "dangling link", "folder", "fifo", "all may write"]


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["commands.jsonl", "acks.jsonl"])
def test_what_is_no_plain_file_of_ours_is_neither_read_nor_written(rig, kind, name):  # S37
    rig.give(1)
    path, victim = rig.folder / name, rig.folder / "victim"
    victim.write_bytes(line("evil"))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "all may write":
        path.write_bytes(line("evil"))
        path.chmod(0o666)
    else:
        path.symlink_to(victim if kind == "link" else rig.folder / "nothing")
    assert rig.poll(2) == [] and rig.got == []
    assert rig.program.faults >= 1 and victim.read_bytes() == line("evil")
    assert not (rig.folder / "nothing").exists()
    path.rmdir() if kind == "folder" else path.unlink()
    rig.give(2)
    rig.poll(2)
    assert rig.got == ([1, 2] if name == "acks.jsonl" else [2])


def test_a_folder_where_all_may_write_is_not_used(rig):  # S37
    rig.give(1)
    rig.folder.chmod(0o777)
    rig.start()
    assert rig.poll() == [] and "all may write" in rig.program.last_fault
    rig.folder.chmod(0o700)
    rig.poll()
    assert rig.got == [1]


def test_what_we_make_is_private_whatever_the_umask(tmp_path):  # S37
    before = os.umask(0)
    try:
        rig = Rig(tmp_path / "deep/queue")
        rig.give(1)
        rig.poll()
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [rig.folder, *rig.folder.rglob("*")]}
    assert set(modes.values()) == {0o600, 0o700} and rig.got == [1]


def test_the_ids_that_are_remembered_are_bounded(tmp_path):
    seen = acks.Acks(tmp_path / "acks.jsonl")
    for number in range(acks.IDS + 10):
        seen.remember(str(number))
    assert not seen.knows("9") and seen.knows("10") and seen.knows(str(acks.IDS + 9))


def test_torn_and_foreign_lines_among_the_acks_harm_nobody(rig):
    rig.give(1)
    rig.poll()
    with (rig.folder / "acks.jsonl").open("ab") as file:
        file.write(b'[1]\n{"id": \n\xff\n' + b"x" * 100_000 + b'\n{"id": "id-b"}\n{"id": "id-')
    rig.append(line("a") + line("b"))
    rig.start()
    rig.poll()
    assert rig.got == [1, "a"]
    assert (rig.folder / "acks.jsonl").read_bytes().splitlines()[-2] == b'{"id": "id-'


def test_how_a_controller_is_set_up(tmp_path):
    program = RuntimeController()
    with pytest.raises(RuntimeError, match="Call configure"):
        program.poll_and_apply()
    program.configure(tmp_path / "a")
    program.configure(str(tmp_path / "a"))
    with pytest.raises(ValueError, match="already configured with"):
        program.configure(tmp_path / "b")
    for path in ("", None, 3):
        with pytest.raises(ValueError, match="non-empty string"):
            program.register(path, print)
    got = []
    program.register("it", lambda ctx: got.append("first"))
    program.register("it", lambda ctx: got.append("second"))
    RuntimeController.enqueue(tmp_path / "a", "it")
    program.poll_and_apply(every_s=0)
    program.register("it", lambda ctx: got.append("third"), overwrite=True)
    RuntimeController.enqueue(tmp_path / "a", "it")
    program.poll_and_apply(every_s=0)
    assert got == ["first", "third"]
    with pytest.raises(TypeError):
        RuntimeController.enqueue(tmp_path / "a", "it", (1,))
    with pytest.raises(TypeError):
        RuntimeController.enqueue(tmp_path / "a", "it", kwargs=[1])
    with pytest.raises(TypeError):
        RuntimeController.enqueue(tmp_path / "a", "it", [object()])


def test_a_poll_within_the_pause_looks_at_nothing(rig):
    rig.program.poll_and_apply(None, 1000)
    rig.give(1)
    assert rig.program.poll_and_apply(None, 1000) == []
    assert rig.program.poll_and_apply(None, 0) != []


def test_the_step_of_the_loop_is_in_the_ack(rig):
    rig.give(1)
    (ack,) = rig.program.poll_and_apply(None, 0, step=42)
    assert ack["step"] == 42


# What may happen to the file between polls; a word is used once, so that "the same again" can be told from "anew".
ACTS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 4)),
    st.tuples(st.just("begin"), st.integers(1, 80)),
    st.tuples(st.just("finish"), st.just(0)),
    st.tuples(st.just("cut"), st.integers(0, 700)),
    st.tuples(st.just("replace"), st.integers(0, 6)),
    st.tuples(st.just("delete"), st.just(0)),
    st.tuples(st.just("junk"), st.sampled_from([b"\n", b"  \n", b"[]\n", b"{\n", b"\xff\xfe\n"])),
    st.tuples(st.just("poll"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTS, max_size=25))
def test_whatever_happens_to_the_file_nothing_is_applied_twice_and_no_whole_line_lost(tmp_path_factory, acts):
    rig = Rig(tmp_path_factory.mktemp("queue"))
    fresh, rest = iter(range(10_000)), b""
    ever = []
    for act, value in [*acts, ("poll", 0)]:
        now = rig.commands.read_bytes() if rig.commands.exists() else b""
        if act == "append":
            rig.append(b"".join(line(next(fresh)) for _ in range(value)))
        elif act == "begin":
            whole = line(next(fresh))
            rest = whole[value:]
            rig.append(whole[:value])
        elif act == "finish":
            rig.append(rest)
            rest = b""
        elif act == "cut":
            with rig.commands.open("ab") as file:
                file.truncate(min(value, len(now)))
        elif act == "replace":
            other = rig.folder / "other"
            other.write_bytes(b"".join(now.splitlines(keepends=True)[value:]) + line(next(fresh)))
            other.replace(rig.commands)
        elif act == "delete":
            rig.commands.unlink(missing_ok=True)
        elif act == "junk":
            rig.append(value)
        elif act == "restart":
            rig.start()
        else:
            there = [lines.parsed(each) for each in now.split(b"\n")[:-1]]
            ever += [each["args"][0] for each in there if each.get("path") == "count"]
            rig.poll()
            assert set(ever) <= set(rig.got)
    assert len(rig.got) == len(set(rig.got))
    assert rig.program.faults == 0, rig.program.last_fault
    assert {ack["id"] for ack in rig.acked() if ack["path"] == "count"} == {f"id-{word}" for word in rig.got}
    assert rig.left() == RESTING or not rig.got
