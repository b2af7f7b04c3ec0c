"""`babysit ipc` over a real ssh: each verb's answer and exit code, and what it leaves written here."""

import json
import os
import re
import shlex
import signal
import sqlite3

import pytest
from host_rig import Laptop, Loop, answer_fifos, askers, audit_lines, rows
from waiting import wait_until

pytestmark = pytest.mark.timeout(400)


def test_a_question_costs_one_connection_and_one_channel(gpu, train, desk):  # R155
    before = gpu.traffic()
    done = Laptop.run(desk, "ipc", "gpu1", "peek")
    seen = gpu.traffic()
    assert done.returncode == 0 and done.stdout.startswith(f"train (pid {train.card()['pid']})  iter "), (
        done.said
    )
    assert re.search(r"/1000000 \(\d+\.\d %\)", done.stdout) and re.search(r"loss \d", done.stdout)
    assert (seen.connections - before.connections, seen.sessions - before.sessions) == (1, 1)
    # Who only looks leaves nothing here: no ledger, no audit line.
    assert not desk.state.exists()
    assert not answer_fifos(gpu) and not askers(gpu)


def test_what_reads_answers_each_in_its_way(train, desk, tmp_path):  # R155
    listed = desk.run("ipc", "gpu1", "list")
    assert listed.returncode == 0 and "train (pid" in listed.stdout and "since 20" in listed.stdout, (
        listed.said
    )
    memory = desk.run("ipc", "gpu1", "memory", "train")
    assert memory.returncode == 0 and "MB now" in memory.stdout, memory.said
    stack = desk.run("ipc", "gpu1", "stack")
    assert stack.returncode == 0 and "(main)" in stack.stdout, stack.said
    assert re.search(r"script\.py:[4-6] in <module>", stack.stdout)  # mostly at its sleep
    plot = desk.run("ipc", "gpu1", "plot", "--png", "p.png", "--html", "p.html", "--last", "50")
    assert plot.returncode == 0, plot.said
    assert (desk.home / "p.png").read_bytes().startswith(b"\x89PNG")
    both = desk.run("ipc", "gpu1", "plot", "--png", "q.png", "--json")
    assert both.json["answers"] and (desk.home / "q.png").read_bytes().startswith(b"\x89PNG"), both.said
    page = (desk.home / "p.html").read_text()
    assert "default-src 'none'" in page and "<polyline" in page and "train (pid" in page
    assert not desk.state.exists()


def test_a_value_arrives_exactly_as_it_was_typed(gpu, train, desk):  # S3
    value = "a 'b' \"c\" $(touch canary) `id` \\x * ; | & ä"
    done = desk.run("ipc", "gpu1", "set", "train", f"name={value!r}")
    assert done.returncode == 0 and "applied at iteration" in done.stdout, done.said
    wait_until(lambda: train.state()["tracked"]["name"] == value, 60, "the value in the loop")
    assert not list(gpu.home.rglob("canary"))
    # A line break would be a second command to an older loop: none of them can be sent.
    for bad in ("name='a\nbreak'", "name=foo(", "name=" + "9" * 5000):
        refused = desk.run("ipc", "gpu1", "set", "train", bad)
        assert refused.returncode in (2, 22), refused.said
    assert train.lives() and "break" not in train.out()


def test_what_acts_is_an_intent_before_and_an_event_after(train, desk):  # R155 S45 S46
    assert desk.run("ipc", "gpu1", "set", "train", "lr=0.5").returncode == 0
    assert desk.run("ipc", "gpu1", "set", "train", "lr=foo(").returncode == 22
    assert desk.run("ipc", "gpu1", "set", "nobody", "lr=1").returncode == 3
    without = desk.run("ipc", "gpu1", "continue", "train")
    assert without.returncode == 5 and "next: babysit ipc gpu1 continue train --yes" in without.stderr, (
        without.said
    )
    assert train.lives()
    intents = rows(desk, "SELECT run_id, kind, text, outcome FROM intent ORDER BY id")
    assert [(row[0], row[1], row[2]) for row in intents] == [
        ("-", "steer", "ipc set train lr=0.5 on gpu1"),
        ("-", "steer", "ipc set train lr=foo( on gpu1"),
        ("-", "steer", "ipc set nobody lr=1 on gpu1"),
    ]
    assert all(row[3] for row in intents) and "lr = 0.5" in intents[0][3]
    events = rows(desk, "SELECT kind, severity, title, body FROM event ORDER BY rowid")
    assert [event[:2] for event in events] == [("steer", "quiet")] * 3
    assert "not a Python literal" in events[1][3] and "No alive" in events[2][3]
    assert not rows(desk, "SELECT * FROM outbox")
    found = [(line["event"], line["verb"], line.get("exit_code")) for line in audit_lines(desk)]
    assert found == [
        ("begin", "ipc set", None), ("end", "ipc set", 0), ("begin", "ipc set", None), ("end", "ipc set", 22), ("begin", "ipc set", None),
        ("end", "ipc set", 3), ("begin", "ipc continue", None), ("end", "ipc continue", 5),
    ]  # fmt: skip


def test_the_command_that_asks_for_a_yes_means_the_same_loops(desk):
    whole = desk.run("ipc", "gpu1", "break", "--run", "other", "--alone", "--wait", "90s", "--json")
    (command,) = whole.json["next"]
    assert shlex.split(command) == [
        "babysit", "ipc", "gpu1", "break", "--run", "other", "--alone", "--wait", "90s", "--yes",
    ]  # fmt: skip


def test_a_document_names_what_is_the_boxs_as_untrusted(train, desk):  # R155 S25
    found = desk.run("ipc", "gpu1", "peek", "--json").json
    assert (found["schema"], found["ok"], found["exit_code"], found["box"], found["verb"]) == (
        "babysit.ipc/1", True, 0, "gpu1", "peek",
    )  # fmt: skip
    (answer,) = found["answers"]
    assert answer["untrusted_label"] == "train" and answer["untrusted_reply"]["state"]["tracked"]["loss"] <= 1
    lost = desk.run("ipc", "gpu1", "peek", "nix", "--json")
    assert lost.returncode == 3 and lost.json["untrusted_error"]["code"] == "no-loop"


def test_a_loop_that_is_held_answers_by_its_exit_code(gpu, desk):
    loop = Loop(gpu, "held")
    try:
        assert desk.run("ipc", "gpu1", "pause", "held", "--yes").returncode == 0
        done = desk.run("ipc", "gpu1", "peek", "held")
        assert done.returncode == 0 and "  iter " in done.stdout and "it is paused" in done.stdout, done.said
        assert desk.run("ipc", "gpu1", "resume", "held").returncode == 0
        saved = desk.run("ipc", "gpu1", "checkpoint", "held")
        assert saved.returncode == 0 and "loopmonitor_checkpoint_" in saved.stdout, saved.said
        left = desk.run("ipc", "gpu1", "continue", "held", "--yes")
        # The loop says so itself; where it is slow to, its end record does.
        assert left.returncode == 0, left.said
        assert "the program goes on" in left.stdout or "says: continued after" in left.stdout, left.said
        wait_until(lambda: not loop.lives() and "went on" in loop.out(), 60, "the program after its loop")
        assert desk.run("ipc", "gpu1", "peek", "held").returncode == 3
        assert desk.run("ipc", "gpu1", "clean").returncode == 0
    finally:
        loop.end()
    assert not answer_fifos(gpu)


def test_several_loops_are_not_guessed_between_and_a_run_means_its_own(gpu, train, desk):
    assert desk.run("arm", "gpu1", "other", "--", "sleep 900").returncode == 0
    ((tag, run_id),) = rows(desk, "SELECT json_extract(content, '$.tag'), run_id FROM run")
    for verb in ("peek", "memory"):  # no target was typed, so none is spoken of
        none = desk.run("ipc", "gpu1", verb, "--run", "other")
        assert none.returncode == 3 and "no loop of run other runs on this box" in none.stderr, none.said
        assert none.stderr.splitlines()[-1] == "next: babysit ipc gpu1 list", none.said
    none = desk.run("ipc", "gpu1", "memory", "--run", "other", "--json").json
    assert none["untrusted_error"]["what"] == "no loop of run other runs on this box"
    assert none["next"] == ["babysit ipc gpu1 list"]
    loop = Loop(gpu, "ours", tag=f"{tag}/01-other")
    try:
        several = desk.run("ipc", "gpu1", "set", "lr=9.0")
        assert several.returncode == 2 and "2 loops" in several.stderr, several.said
        assert "next: babysit ipc gpu1 list" in several.stderr, several.said
        mine = desk.run("ipc", "gpu1", "set", "lr=7.0", "--run", "other", "--json")
        assert mine.returncode == 0 and [answer["run"] for answer in mine.json["answers"]] == ["other"], (
            mine.said
        )
        wait_until(lambda: loop.state()["tracked"]["lr"] == 7.0, 60, "the value")
        assert train.state()["tracked"]["lr"] not in (7.0, 9.0)
        events = rows(desk, "SELECT run_id FROM event WHERE kind = 'steer' ORDER BY rowid")
        assert events[-1] == (run_id,)
        both = desk.run("ipc", "gpu1", "peek")
        assert both.returncode == 0 and both.stdout.count("  iter ") == 2, both.said
        assert desk.run("ipc", "gpu1", "peek", "--run", "nobody").returncode == 3
        # The patrol's line tells of the run's loop, beside its own facts.
        seen = looked(desk, lambda run: run["loops"] and run["progress"])
        assert seen["progress"]["unit"] == "iteration" and seen["loops"][0]["untrusted_label"] == "ours"
        assert seen["loops"][0]["untrusted_tracked"]["lr"] == 7.0
        wait_until(lambda: "iteration " in desk.run("patrol", "--once").stdout, 120, "its line")
        # Paused, it is named with the command that lets it go on, and that command does.
        assert desk.run("ipc", "gpu1", "pause", "--run", "other", "--yes").returncode == 0
        held = looked(desk, lambda run: run["loops"] and run["loops"][0]["paused"])
        again = shlex.split(held["next"][0])
        assert again == ["babysit", "ipc", "gpu1", "resume", "--run", "other"], held
        assert desk.run(*again[1:]).returncode == 0
        before = loop.state()["iteration"]
        wait_until(lambda: loop.state()["iteration"] > before, 60, "it goes on")
    finally:
        loop.end()
        desk.run("stop", "other", "--yes", "--grace", "1")


def looked(desk, fits):
    """What the patrol tells of the run in the first look that fits: one that ran out of its time tells less."""
    found = []

    def look():
        found[:] = [run for run in desk.patrol()["runs"] if run["run"] == "other"]
        return fits(found[0])

    wait_until(look, 120, "the loop of the run in a look")
    return found[0]


@pytest.mark.parametrize("shape", ["label", "json", "fifo", "folder"])
def test_hostile_things_in_the_folder_are_shown_harmless(gpu, train, desk, shape):  # S23 S38
    ipc = gpu.home / ".ipc"
    evil = "x\x1b]52;c;AAAA\x07\u202e"
    registry = json.loads((ipc / "registry.json").read_text())
    before = (ipc / "registry.json").read_bytes()
    try:
        if shape == "label":
            pid = train.card()["pid"]
            registry["1"] = {**registry[str(pid)], "pid": 1, "label": evil}
            _put(gpu, ipc / "registry.json", json.dumps(registry))
        elif shape == "json":
            _put(gpu, ipc / "registry.json", "[" * 100_000)
        elif shape == "fifo":
            os.mkfifo(ipc / "onbox/4194000.json")
        else:
            ipc.chmod(0o777)
        for words in (["list"], ["peek", "train", "--json"]):
            done = desk.run("ipc", "gpu1", *words, "--wait", "60")
            assert done.returncode in (0, 2, 3, 12), done.said
            assert "\x1b" not in done.said and "\u202e" not in done.said and "Traceback" not in done.said
        assert shape != "folder" or done.returncode == 2
        assert desk.run("patrol", "--once").returncode == 0
    finally:
        ipc.chmod(0o700)
        (ipc / "onbox/4194000.json").unlink(missing_ok=True)
        _put(gpu, ipc / "registry.json", before.decode())


def _put(gpu, path, text):
    owner = gpu.home.stat()
    path.write_text(text)
    os.chown(path, owner.st_uid, owner.st_gid)


def test_an_unreachable_box_is_told_and_an_order_that_was_not_sent_is_not_open(gpu, desk):
    gpu.drop_sshd()
    try:
        assert desk.run("ipc", "gpu1", "peek").returncode == 11
        assert desk.run("ipc", "gpu1", "set", "lr=1").returncode == 11
    finally:
        gpu.raise_sshd()
    ((outcome,),) = rows(desk, "SELECT outcome FROM intent")
    assert outcome.startswith("not done: ")


def test_an_order_that_was_cut_short_is_told_until_somebody_knows(gpu, train, desk):  # R155

    def intended():
        try:
            return rows(desk, "SELECT 1 FROM intent")
        except sqlite3.OperationalError:  # no ledger yet, or one that is just being made
            return []

    pids = train.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # nobody answers: the order stays open until its sender is killed
    try:
        child = desk.start("ipc", "gpu1", "set", "train", "lr=3", "--wait", "300s")
        wait_until(intended, 60, "the intent")
        child.kill()
        child.communicate()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert rows(desk, "SELECT outcome FROM intent") == [(None,)]
    told = desk.run("check")
    assert told.returncode == 10 and "ipc set train lr=3 on gpu1" in told.said, told.said
    assert "babysit ipc gpu1 list" in told.said


def test_arming_brings_the_command_and_links_it_where_its_owner_agreed(gpu, desk):
    folder = gpu.home / "bin"
    folder.mkdir()
    owner = gpu.home.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    desk.spec("""
        [box.gpu1]
        host = "gpu1"
        ipc_link = "~/bin"
    """)
    done = desk.run("arm", "gpu1", "linked", "--", "true")
    assert done.returncode == 0 and "ipc     /home/dev/bin/ipc steers loops on the box" in done.stderr, (
        done.said
    )
    runs = gpu.home / ".local/state/babysit/runs"
    wait_until(lambda: list(runs.glob("linked-*/end")), 60, "the run's end")
    listed = gpu.run("bin/ipc list")
    assert listed.returncode == 0 and ("PID" in listed.stdout or "No registered" in listed.stdout), listed
    desk.run("disarm", "linked")
    assert desk.run("gc", "gpu1", "--finished", "--yes").returncode == 0
    assert (folder / "ipc").is_symlink() and gpu.run("bin/ipc list").returncode == 0
