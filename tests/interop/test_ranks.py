"""Two ranks under real torch, joined by gloo: they take a command at one step, and leave a loop at one iteration."""

import json
import os
import subprocess
import sys

import pytest
from peers import OURS, PYTHON, ROOT, Folder
from waiting import wait_until

pytestmark = pytest.mark.timeout(900)
TIMES = 50
WITHIN_S = 120.0


class Ranks:
    """Two processes that meet at every step, and do what is laid before them."""

    def __init__(self, home):
        home.mkdir()
        self.home, self.folder, self._jobs = home, Folder(home), 0
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LOOPCTL_DIR": str(self.folder.ipc),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29500",  # names the group; the port that is used is picked by the first rank
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
        }
        self.processes = []
        for rank in range(2):
            with (home / f"out-{rank}").open("wb") as out:
                script = [PYTHON, ROOT / "tests/interop/rank.py", home]
                self.processes.append(
                    subprocess.Popen(
                        script, cwd=home, env={**env, "RANK": str(rank)}, stdout=out, stderr=subprocess.STDOUT
                    )
                )
        try:
            self._both("ready-{rank}")
        except BaseException:
            self.close()
            raise

    def begin(self, job):
        """Nothing comes back: both begin it."""
        (self.home / "new").write_text(job)
        (self.home / "new").rename(self.home / f"job-{self._jobs}")
        self._jobs += 1

    def ended(self):
        """What came of the job that was begun last, in each rank."""
        at = self._jobs - 1
        self._both(f"done-{at}-{{rank}}")
        return [json.loads((self.home / f"done-{at}-{rank}").read_text()) for rank in range(2)]

    def stopped(self):
        """As `ended`, after the ranks were told to stop."""
        (self.home / "stop").touch()
        done = self.ended()
        (self.home / "stop").unlink()
        for rank in range(2):
            (self.home / f"polls-{rank}").unlink()
        return done

    def control(self, job):
        """Nothing comes back: both poll the queue."""
        self.begin(job)
        self._both("polls-{rank}")

    def told(self, *words):
        """The acknowledgements of one command, by rank; `runtimectl` waited for them."""
        command = [
            sys.executable,
            "-m",
            "onbox",
            "runtimectl",
            "-q",
            self.home / "queue",
            *words,
            "--wait",
            "60",
        ]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WITHIN_S, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, {ack["rank"]: ack for ack in lines[1:]}, done.stderr

    def close(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def _both(self, name):
        """Nothing comes back: the file of that name is there for both ranks; fails when one of them dies."""

        def there():
            for rank, process in enumerate(self.processes):
                assert process.poll() is None, (self.home / f"out-{rank}").read_text()
            return all((self.home / name.format(rank=rank)).exists() for rank in range(2))

        wait_until(there, WITHIN_S, f"{name} of both ranks")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """One pair for all tests here: torch takes long to be imported."""
    pair = Ranks(tmp_path_factory.mktemp("ranks") / "pair")
    yield pair
    pair.close()


def living(ranks):
    """The cards of both, once each names its loop."""
    found = []

    def both():
        paths = [ranks.folder.ipc / f"onbox/{process.pid}.json" for process in ranks.processes]
        found[:] = [json.loads(path.read_bytes()) for path in paths if path.exists()]
        return len(found) == 2 and all(card["loops"] for card in found)

    wait_until(both, WITHIN_S, "a card of each rank")
    return found


def told_to_continue(ranks, target):
    """The answers, once both follow. One that is held up for long keeps both: then it is said once more."""
    said = []

    def followed():
        said.append(ranks.folder.asked(OURS, "continue", target, "--wait", "60", "--json", within_s=WITHIN_S))
        assert said[-1].returncode == 0 or all(card["loops"] for card in living(ranks)), said[-1]
        return said[-1].returncode == 0

    wait_until(followed, WITHIN_S, "one iteration for both")
    return json.loads(said[-1].stdout)["answers"]


def test_both_leave_at_one_iteration_every_time(ranks):  # R153
    left = []
    for _ in range(TIMES):
        ranks.begin("leave")
        cards = living(ranks)
        assert [(card["rank"], card["world"]) for card in cards] == [(0, 2), (1, 2)]
        assert cards[0]["group"] == cards[1]["group"]
        answers = told_to_continue(ranks, "ranks")
        assert all(answer["confirmed"] for answer in answers) and len(answers) == 2
        left.append(ranks.ended())
    print("left at", left)
    assert [first == second for first, second in left] == [True] * TIMES


def test_one_alone_is_refused_and_both_go_on(ranks):  # R153
    ranks.begin("leave")
    living(ranks)
    for process in ranks.processes:
        said = ranks.folder.asked(OURS, "continue", process.pid, "--json")
        assert said.returncode == 22, said
    said = ranks.folder.asked(OURS, "peek", "ranks", "--json")
    assert said.returncode == 0
    for answer in json.loads(said.stdout)["answers"]:
        assert isinstance(answer["reply"]["state"]["tracked"]["met"], float)  # a tensor in the program
    told_to_continue(ranks, "all")
    first, second = ranks.ended()
    assert first == second


def test_a_command_is_applied_by_both_at_one_step(ranks):  # R154
    ranks.control("control")
    steps = []
    for factor in (0.5, 0.25, 2):
        code, acks, err = ranks.told("lr.factor", str(factor))
        assert code == 0, (acks, err)
        assert {rank: ack["status"] for rank, ack in acks.items()} == {0: "applied", 1: "applied"}
        assert acks[0]["step"] == acks[1]["step"]
        assert not any(ack.get("late") for ack in acks.values())
        steps.append([factor, acks[0]["step"]])
    code, acks, err = ranks.told("lr.factor", "-1")
    assert (code, {rank: ack["status"] for rank, ack in acks.items()}) == (22, {0: "failed", 1: "failed"}), (
        err
    )
    first, second = ranks.stopped()
    assert first == second == {"applied": steps, "faults": 0, "fault": ""}


@pytest.mark.parametrize("who", ["one", "the first"])
def test_a_rank_that_polls_half_as_often_hangs_nobody(ranks, who):
    ranks.control(f"control, {who} polls half as often")
    for factor in (3, 4, 5):
        code, acks, err = ranks.told("lr.factor", str(factor))
        assert code == 0, (acks, err)
        assert sorted(acks) == [0, 1]
        assert abs(acks[0]["step"] - acks[1]["step"]) <= 1
    for done in ranks.stopped():
        assert [factor for factor, _ in done["applied"]] == [3, 4, 5]


def test_polls_are_counted_where_no_step_is_told(ranks):
    ranks.control("control, polls are counted")
    code, acks, err = ranks.told("lr.factor", "6")
    assert (code, sorted(acks)) == (0, [0, 1]), err
    for done in ranks.stopped():
        assert [factor for factor, _ in done["applied"]] == [6]


def test_a_group_that_starts_again_replays_nothing(ranks, tmp_path):  # R154
    """The pair is killed with a queue that it has worked through; the next one does only what is new."""
    ranks.control("control")
    assert ranks.told("lr.factor", "7")[0] == 0
    ranks.close()
    again = Ranks(tmp_path / "again")
    try:
        (ranks.home / "queue").rename(again.home / "queue")
        before = len((again.home / "queue/commands.jsonl").read_text().splitlines())
        assert before > 1
        again.control("control")
        code, acks, err = again.told("lr.factor", "8")
        assert (code, sorted(acks)) == (0, [0, 1]), err
        for done in again.stopped():
            assert [factor for factor, _ in done["applied"]] == [8]
        acks = (again.home / "queue/acks.jsonl").read_text().splitlines()
        assert len({(json.loads(ack)["id"], json.loads(ack)["rank"]) for ack in acks}) == len(acks)
    finally:
        again.close()
