"""`babysit ctl` over a real ssh: a command into a queue, and what became of it."""

import ast

import pytest
from host_rig import QUEUE, Program, askers, audit_lines, rows
from waiting import wait_until

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def trainer(gpu):
    """A program that takes commands from ~/q until it is told to go."""
    program = Program(gpu, QUEUE, "../q")
    wait_until(lambda: "up" in program.out(), 60, "the program")
    yield program
    program.end()


def seen(trainer):
    path = trainer.folder / "seen"
    return [ast.literal_eval(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_command_is_applied_once_exactly_as_it_was_typed(gpu, trainer, desk):  # R154 S17
    before = gpu.traffic()
    text = "a 'b' $(touch canary)\n\"c\" \\x ä"
    done = desk.run("ctl", "gpu1", "~/q", "lr", text, "--kwargs", '{"note": "x y"}')
    assert done.returncode == 0 and "applied" in done.stdout, done.said
    traffic = gpu.traffic()
    assert (traffic.connections - before.connections, traffic.sessions - before.sessions) == (1, 1)
    assert seen(trainer)[-1] == (text, {"note": "x y"})
    number = desk.run("ctl", "gpu1", "q", "lr", "-0.5", "--json")
    assert number.returncode == 0 and number.json["schema"] == "babysit.ctl/1", number.said
    assert seen(trainer)[-1] == (-0.5, {}) and number.json["untrusted_acks"][0]["status"] == "applied"
    assert not list(gpu.home.rglob("canary")) and not askers(gpu)
    events = rows(desk, "SELECT kind, title, body FROM event ORDER BY rowid")
    assert [event[0] for event in events] == ["steer"] * 2 and events[1][1] == "ctl q lr -0.5 on gpu1"
    assert "applied" in events[1][2]
    assert [line["verb"] for line in audit_lines(desk)] == ["ctl"] * 4


def test_what_is_not_applied_has_its_exit_code(gpu, trainer, desk):
    assert desk.run("ctl", "gpu1", "q", "lr", "bad").returncode == 22
    assert desk.run("ctl", "gpu1", "q", "nix", "1").returncode == 22
    nobody = desk.run("ctl", "gpu1", "empty", "lr", "1", "--wait", "1s")
    assert nobody.returncode == 124 and "no answer in 1 s" in nobody.stderr, nobody.said
    queued = desk.run("ctl", "gpu1", "empty", "lr", "2", "--no-wait")
    assert queued.returncode == 0 and "queued as" in queued.stdout, queued.said
    # What a program of another make would do with what lies there is said before it does.
    assert "will replay" in queued.stderr.replace("\n", " "), queued.said
    assert desk.run("ctl", "gpu1", "q", "lr", "1", "--kwargs", "[1]").returncode == 2
    unset = desk.run("ctl", "gpu1", "", "lr", "1", "--no-wait")
    assert unset.returncode == 2 and "QUEUE is empty" in unset.stderr, unset.said
    assert not (gpu.home / "commands.jsonl").exists()


def test_with_a_run_only_its_own_program_gets_the_command(gpu, trainer, desk):
    assert desk.run("arm", "gpu1", "other", "--", "sleep 900").returncode == 0
    ((tag, run_id),) = rows(desk, "SELECT json_extract(content, '$.tag'), run_id FROM run")
    before = seen(trainer)
    strange = desk.run(
        "ctl", "gpu1", "q", "lr", "0.25", "--run", "other"
    )  # a program of no run listens there
    assert strange.returncode == 22 and "nothing was sent" in strange.stderr, strange.said
    assert "of no run" in strange.stderr and seen(trainer) == before
    nobody = desk.run("ctl", "gpu1", "deserted", "lr", "1", "--run", "other")
    assert nobody.returncode == 22 and "nobody of ours takes the commands" in nobody.stderr, nobody.said
    assert not list((gpu.home / "deserted").glob("commands.jsonl"))
    assert desk.run("ctl", "gpu1", "q", "lr", "1", "--run", "nix").returncode == 3
    assert desk.run("ctl", "gpu1", "q", "status", "--run", "other").returncode == 2
    program = Program(gpu, QUEUE, "../q3", tag=f"{tag}/01-other")
    try:
        wait_until(lambda: "up" in program.out(), 60, "the program")
        done = desk.run("ctl", "gpu1", "q3", "lr", "0.25", "--run", "other")
        assert done.returncode == 0 and "applied" in done.stdout, done.said
    finally:
        program.end()
    events = rows(desk, "SELECT run_id FROM event WHERE kind = 'steer' ORDER BY rowid")
    assert set(events) == {(run_id,)} and len(events) == 3


def test_a_queue_can_be_looked_at_and_nothing_is_written(trainer, desk):
    done = desk.run("ctl", "gpu1", "q", "status", "--last", "2")
    assert done.returncode == 0 and "listens" in done.stdout and "without one" in done.stdout, done.said
    found = desk.run("ctl", "gpu1", "q", "status", "--json").json
    assert found["ok"] and found["untrusted_listener"]["alive"] is True
    assert not desk.state.exists()


def test_a_program_that_died_is_told(gpu, desk):
    program = Program(gpu, QUEUE, "../q2")
    wait_until(lambda: "up" in program.out(), 60, "the program")
    assert desk.run("ctl", "gpu1", "q2", "lr", "1").returncode == 0
    program.end()
    done = desk.run("ctl", "gpu1", "q2", "lr", "2", "--wait", "10s")
    assert done.returncode == 23 and "is gone" in done.stderr, done.said
