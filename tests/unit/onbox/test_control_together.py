import json
import random
import threading
from functools import partial

import pytest
from waiting import wait_until

from onbox.control import RuntimeController
from onbox.control.together import Seat


class Shelf:
    """A store in memory; a call for what is not there fails the test instead of waiting."""

    def __init__(self):
        self.lock, self.kept, self.broken = threading.Lock(), {}, 0

    def _asked(self):
        if self.broken:
            self.broken -= 1
            raise ConnectionError("the store is away")

    def add(self, key, amount):
        with self.lock:
            self._asked()
            self.kept[key] = str(int(self.kept.get(key, "0")) + amount)
            return int(self.kept[key])

    def set(self, key, value):
        with self.lock:
            self._asked()
            self.kept[key] = value

    def get(self, key):
        with self.lock:
            self._asked()
            return self.kept[key].encode()

    def check(self, keys):
        with self.lock:
            self._asked()
            return set(keys) <= set(self.kept)


class Job:
    """Ranks that poll when they are told to."""

    def __init__(self, folder, world, silent_s=60.0):
        self.folder, self.world, self.store = folder, world, Shelf()
        self.got = [[] for _ in range(world)]
        self.steps = [0] * world
        self.seats = [Seat(self.store, rank, world) for rank in range(world)]
        self.ranks = [self.started(rank, silent_s) for rank in range(world)]

    def started(self, rank, silent_s=60.0):
        program = RuntimeController(self.folder, ddp=True, ranks=lambda: self.seats[rank], silent_s=silent_s)
        program.register("count", partial(self._count, rank))
        return program

    def _count(self, rank, _, word):
        if word == f"bad for {rank}":
            raise ValueError("not here")
        self.got[rank].append((word, self.steps[rank]))

    def poll(self, rank, *, step=True, every_s=0):
        self.steps[rank] += 1
        return self.ranks[rank].poll_and_apply(None, every_s, **({"step": self.steps[rank]} if step else {}))

    def round(self, times=1, order=None, **how):
        for _ in range(times):
            for rank in order or range(self.world):
                self.poll(rank, **how)

    def give(self, word):
        return RuntimeController.enqueue(self.folder, "count", [word])["id"]

    def acked(self):
        return [json.loads(line) for line in (self.folder / "acks.jsonl").read_text().splitlines()]

    def faults(self):
        return [(rank.faults, rank.last_fault) for rank in self.ranks]


def seen(acks):
    return [(ack["rank"], ack["world"], ack["status"], ack["step"]) for ack in acks]


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("step", [True, False])
def test_all_ranks_apply_at_one_step_and_rank_0_acknowledges_all(tmp_path, world, step):
    job = Job(tmp_path, world)
    rng = random.Random(world)
    for word in range(5):
        job.give(word)
        for _ in range(8):
            job.round(order=rng.sample(range(world), world), step=step)
    assert job.got[0] == job.got[-1] and len(job.got[0]) == 5
    assert all(got == job.got[0] for got in job.got)
    acks = job.acked()
    assert [ack["rank"] for ack in acks] == list(range(world)) * 5
    steps = [at for _, at in job.got[0]]
    if world > 1 or step:
        assert [ack["step"] for ack in acks] == [at for at in steps for _ in range(world)]
    assert not [ack for ack in acks if "late" in ack]
    assert job.faults() == [(0, "")] * world
    assert not list(tmp_path.rglob("*.taken"))


def test_the_acks_that_come_back_are_those_of_the_rank(tmp_path):
    job = Job(tmp_path, 2)
    job.give("a")
    back = [[], []]
    for _ in range(6):
        for rank in (0, 1):
            back[rank] += job.poll(rank)
    assert [seen(acks) for acks in back] == [
        [(0, 2, "applied", job.got[0][0][1])],
        [(1, 2, "applied", job.got[0][0][1])],
    ]


def test_ranks_that_look_seldom_look_at_every_poll_while_a_command_is_under_way(tmp_path):
    job = Job(tmp_path, 2)
    job.give("a")
    for _ in range(8):
        for rank in (0, 1):
            job.poll(rank, every_s=1000)
    assert len(job.acked()) == 2 and job.got[0] == job.got[1]


def test_a_rank_that_fails_says_so_itself(tmp_path):
    job = Job(tmp_path, 2)
    job.give("bad for 1")
    job.round(6)
    assert [(ack["status"], ack.get("error")) for ack in job.acked()] == [
        ("applied", None),
        ("failed", "not here"),
    ]
    assert list(job.acked()[1])[-4:] == ["error", "rank", "world", "step"]


def test_what_rank_0_rejects_is_acknowledged_once(tmp_path):
    job = Job(tmp_path, 2)
    RuntimeController.enqueue(tmp_path, "nobody", [1])
    job.give("a")
    job.round(6)
    assert [(ack["status"], ack["rank"]) for ack in job.acked()] == [
        ("rejected", 0),
        ("applied", 0),
        ("applied", 1),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_unequal_polls_never_hang_and_lose_nothing(tmp_path, seed):
    rng = random.Random(seed)
    job = Job(tmp_path, 3)
    for word in range(4):
        job.give(word)
        for _ in range(60):
            job.poll(rng.choice([0, 0, 0, 1, 2, 2]), step=False)
    job.round(400, step=False)
    assert [[word for word, _ in got] for got in job.got] == [[0, 1, 2, 3]] * 3
    assert len(job.acked()) == 12 and job.faults() == [(0, "")] * 3


def test_a_rank_that_is_past_the_step_when_it_hears_of_it_is_late(tmp_path):
    job = Job(tmp_path, 2)
    job.give("a")
    job.poll(0)
    job.poll(1)
    job.poll(0)  # names the step
    job.steps[1] = 50
    job.poll(1)
    job.round(4)
    zero, one = job.acked()
    assert "late" not in zero and one["late"] is True and one["step"] > zero["step"]
    assert list(one)[-4:] == ["rank", "world", "step", "late"]


@pytest.mark.parametrize("after", ["never polled", "saw it"])
def test_a_silent_rank_is_given_up_and_does_not_apply_it_later(tmp_path, after):
    job = Job(tmp_path, 2, silent_s=0.05)
    job.give("a")
    job.poll(0)
    if after == "saw it":
        job.poll(1)
    wait_until(lambda: job.poll(0) is not None and job.acked(), 20, "rank 1 given up")
    zero, one = job.acked()
    assert zero["status"] == "applied"
    assert (one["status"], one["step"]) == ("failed", None) and "rank 1 said nothing for 0.05 s" in one[
        "error"
    ]
    job.round(10)
    assert job.got[1] == [] and len(job.got[0]) == 1
    job.steps = [max(job.steps)] * 2
    job.give("b")
    job.round(10)
    assert [word for word, _ in job.got[1]] == ["b"]


def test_a_rank_that_never_comes_to_the_step_applies_all_the_same_and_is_late(tmp_path):
    job = Job(tmp_path, 2, silent_s=0.6)
    job.give("a")
    job.steps[0] = 1_000_000
    job.round(2)
    wait_until(lambda: job.poll(1) or job.got[1], 20, "rank 1 out of patience")
    job.round(4)
    zero, one = job.acked()
    assert (zero["status"], zero.get("late")) == ("applied", None)
    assert (one["status"], one["late"]) == ("applied", True) and one["step"] < zero["step"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_store_that_fails_at_any_call_costs_faults_and_no_command(tmp_path, rank):
    failures = 0
    for nth in range(25):
        job = Job(tmp_path / str(nth), 2)
        job.give("a")
        for turn in range(20):
            for each in (0, 1):
                if each == rank and turn * 2 >= nth:
                    job.store.broken = 1 if turn * 2 == nth or turn * 2 == nth + 1 else 0
                job.poll(each)
                job.store.broken = 0
        failures += job.ranks[rank].faults
        assert [word for word, _ in job.got[0]] == [word for word, _ in job.got[1]] == ["a"]
        assert len(job.acked()) == 2
    assert failures


def test_a_rank_that_starts_anew_applies_nothing_a_second_time(tmp_path):
    job = Job(tmp_path, 2)
    job.give("a")
    while not job.got[1]:
        job.poll(0)
        job.poll(1)
    job.ranks[1] = job.started(1)
    for _ in range(3):
        job.poll(1)
    job.round(5)
    assert len(job.got[1]) == 1 and len(job.acked()) == 2


def test_a_group_that_ends_first_is_told_for_every_rank(tmp_path):
    job = Job(tmp_path, 2)
    job.give("a")
    job.poll(0)
    job.seats = [Seat(None, rank, 2) for rank in range(2)]
    job.round(2)
    assert [(ack["rank"], ack["status"]) for ack in job.acked()] == [(0, "failed"), (1, "failed")]
    assert job.got == [[], []]


def test_ranks_that_cannot_speak_yet_take_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    program = RuntimeController(tmp_path, ddp=True)
    RuntimeController.enqueue(tmp_path, "nobody")
    assert program.poll_and_apply(None, 0) == []
    monkeypatch.delenv("WORLD_SIZE")
    assert len(program.poll_and_apply(None, 0)) == 1


def test_an_interrupt_on_one_rank_is_acknowledged_for_all_its_commands(tmp_path):
    job = Job(tmp_path, 2)

    def interrupted(ctx, word):
        raise KeyboardInterrupt

    job.ranks[1].register("count", interrupted, overwrite=True)
    job.give("a")
    job.give("b")
    raised = 0
    for _ in range(8):
        job.poll(0)
        try:
            job.poll(1)
        except KeyboardInterrupt:
            raised += 1
    assert raised == 1
    assert [(ack["rank"], ack["status"]) for ack in job.acked()] == [(0, "applied"), (1, "failed")] * 2
