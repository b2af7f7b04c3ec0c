"""Boxes that lack a tool: the job runs all the same, and nobody gets in twice; or it is refused in words."""

import shutil

import pytest
from integration.chain.rig import LONG, SHELLS, alive, kill, result, tools
from waiting import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    "missing", [("flock",), ("flock", "python3", "python"), ("timeout",), ("sync", "stat")]
)
def test_a_box_without_a_tool_runs_the_job_and_lets_nobody_in_twice(make_run, tmp_path, missing):  # P1
    path = tools(tmp_path / "bin", but=missing)
    env = {"PATH": str(path)}
    run = make_run(train=LONG, eval="work eval; over")
    first = run.start("0", shell=(SHELLS[0]), **env)
    run.up()
    assert {result(process)[0] for process in [run.start("1", **env) for _ in range(3)]} == {10}
    run.crash_chain(first)
    code, said = run.result("1", **env)
    assert code == 10
    assert str(run.trainer()) in said
    kill(run.trainer())
    wait_until(lambda: run.verdict() == "free", 60, "the orphan has ended")
    (run.work / "alive").unlink()
    again = run.start("1", **env)
    run.up(2)
    run.open_gate()
    assert result(again)[0] == 0
    assert run.launches() == ["train", "train", "eval"]


def test_without_any_tool_for_locks_nothing_is_launched(make_run, tmp_path):
    path = tools(tmp_path / "bin", but=("flock", "python3", "python", "perl"))
    run = make_run(train="work train")
    assert run.result("0", PATH=str(path)) == (12, "unknown: this box has no flock, python3 or perl")
    assert not run.launches()


@pytest.mark.skipif(shutil.which("busybox") is None, reason="no busybox here")
def test_a_box_that_has_only_busybox_and_python(make_run, tmp_path):
    path = tools(tmp_path / "bin", busybox=True)
    run = make_run(train="echo hello; exec sleep 600")
    stage = run.dir / "stages" / "01-train.sh"
    stage.write_text("echo hello\nexec sleep 600\n")
    said = run.launch("0", path=path, prints="hello")
    assert (said.word, said.detach, said.first_line) == ("started", "setsid", "hello"), said
    said = run.launch("1", path=path)
    assert said.word == "alive"
    chain = int(run.record("attempt")["pid"])
    kill(chain)
    wait_until(lambda: not alive(chain), 60, "the chain is dead")
    said = run.launch("1", path=path)
    assert said.word == "alive"
    assert set(map(str, run.tagged())) <= set(said.text.split())
    stopped = run.stop(path=path)
    assert stopped.word == "stopped"
    assert not run.marked()
    assert run.seen() == "1:stopped"
