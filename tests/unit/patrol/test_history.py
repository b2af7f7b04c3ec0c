import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.patrol.build import (
    BOX_NOW,
    MISSING,
    NOW,
    SKEW,
    artifact,
    attempt,
    away,
    box,
    facts,
    folded,
    known,
    marker,
    probe,
    run,
)

from fleet.model.probe import Gpu, LogSlice, Memory
from fleet.model.verdict import Progress
from patrol.decide import decide
from patrol.history import History, fold

BEAT = b"[HEARTBEAT 10:00:01]\n"
FIVE_MIN = 300.0


class Story:
    """A log that grows and the looks at it, a tick every five minutes, as the box would show them."""

    def __init__(self, **spec):
        self.run = run(**spec)
        self.text = b""
        self.written_at = BOX_NOW
        self.ticks = 0
        self.history = History()
        self.verdict = None
        self.gpus = (Gpu(0, "H100", 94.0, 10**9, 8 * 10**9),)

    def tick(self, new=b"", *, after_s=FIVE_MIN, **changed):
        self.ticks += 1
        now = NOW + self.ticks * after_s
        if new:
            self.text += new
            self.written_at = now + SKEW - 1
        start = min(self.history.log_offset, len(self.text))
        log = LogSlice("1:2", len(self.text), self.written_at, start, self.text[start:])
        values = {"log": known(log), "attempt": known(attempt(ago_s=0.0)), **changed}
        seen = msgspec.structs.replace(
            probe(facts(**values), box(now=now + SKEW, gpus=known(self.gpus))),
            at=now,
            runs={self.run.run_id: facts(**values)},
        )
        self.history = fold(self.history, self.run, seen, now)
        self.verdict = decide(self.run, seen, self.history, now)
        return self.verdict


def test_a_hang_that_prints_heartbeats_is_stalled():  # R146 D9 R98
    story = Story()
    rows = [story.tick(b"Epoch 1/9\n" + BEAT).row]
    rows += [story.tick(BEAT * 10).row for _ in range(7)]
    assert rows == ["R-RUN-1"] * 6 + ["R-STALL-2"] * 2
    assert story.verdict.summary.startswith("only heartbeats for 35 min")
    assert story.tick(b"Epoch 2/9\n").row == "R-RUN-1"


def test_a_silent_log_with_an_advancing_checkpoint_runs():  # R98
    story = Story(artifacts=("*.pt",))
    story.tick(b"Epoch 1/9\n")
    rows = [story.tick(artifacts=known((artifact(ago_s=-FIVE_MIN * n + 30),))).row for n in range(2, 12)]
    assert set(rows) == {"R-RUN-1"}
    last = story.history.artifact_at
    rows = [story.tick(artifacts=known((artifact(ago_s=BOX_NOW - last),))).row for _ in range(8)]
    assert rows[-1] == "R-STALL-1"


def test_a_silent_log_and_a_new_marker_runs():
    story = Story()
    story.tick(b"Epoch 1/9\n")
    assert [story.tick().row for _ in range(5)][-1] == "R-RUN-1"
    assert story.tick(markers=known((marker(ago_s=-FIVE_MIN * 7),))).row == "R-RUN-1"
    assert story.tick(markers=known((marker(ago_s=-FIVE_MIN * 7),))).row == "R-RUN-1"


def test_a_busy_gpu_is_no_progress():  # R98 R47 R150
    story = Story()
    story.tick(b"Epoch 1/9\n")
    verdict = [story.tick() for _ in range(7)][-1]
    assert verdict.row == "R-STALL-1"
    assert "GPU 94 %" in verdict.summary


def test_an_idle_gpu_with_new_lines_is_no_stall():  # R98 R46
    story = Story()
    story.gpus = (Gpu(0, "H100", 0.0, 10**9, 8 * 10**9),)
    assert {story.tick(f"Epoch {n}/90\n".encode()).row for n in range(9)} == {"R-RUN-1"}
    assert "GPU 0 %" in story.verdict.summary


def test_a_bar_drawn_again_at_the_same_place_is_stalled_and_one_that_moves_is_not():  # R42
    def bar(count, seconds):
        return f"\r {count}%|###| {count}/100 [00:{seconds}<00:20, 3.1it/s]".encode()

    story = Story()
    assert {story.tick(bar(n, 10)).row for n in range(10)} == {"R-RUN-1"}
    assert [story.tick(bar(9, 20 + n)).row for n in range(8)][-1] == "R-STALL-2"
    assert story.tick(bar(10, 50)).row == "R-RUN-1"


def test_the_cut_half_of_a_heartbeat_is_no_progress():
    story = Story()
    story.tick(b"Epoch 1/9\n")
    rows = []
    for _ in range(4):
        rows += [story.tick(BEAT[:9]).row, story.tick(BEAT[9:]).row]
    assert rows[-1] == "R-STALL-2"
    assert story.history.log_offset == len(story.text)


def test_a_line_that_grows_through_ticks_is_progress():
    story = Story()
    assert {story.tick(b".....").row for _ in range(12)} <= {"R-RUN-1", "R-START-1"}
    assert [story.tick().row for _ in range(7)][-1] == "R-STALL-1"


def test_own_heartbeat_patterns_count():
    story = Story(heartbeat=("PING",))
    story.tick(b"Epoch 1/9\n")
    assert [story.tick(b"PING\n").row for _ in range(7)][-1] == "R-STALL-2"


def test_a_new_attempt_starts_the_clock_anew_and_forgets_the_old_progress():  # R32
    story = Story()
    story.tick(b"Epoch 8/9\n")
    assert [story.tick().row for _ in range(7)][-1] == "R-STALL-1"
    verdict = story.tick(
        b"== attempt 2 of run train-k3f9, expected 1\n", attempt=known(attempt(2, ago_s=-FIVE_MIN * 9 + 30))
    )
    assert (verdict.row, verdict.progress.index) == ("R-START-1", None)
    assert story.tick(b"Epoch 8/9\n", attempt=known(attempt(2, ago_s=-FIVE_MIN * 9 + 30))).row == "R-RUN-1"


def test_crash_lines_count_since_the_attempt_began():  # R41 R40
    crash = b"Traceback (most recent call last):\nKeyError: 'x'\n"
    story = Story()
    story.tick(crash)
    assert story.history.crash_lines == 2
    story.tick(b"== attempt 2 of run train-k3f9, expected 1\nEpoch 1/9\n", attempt=known(attempt(2)))
    assert story.history.crash_lines == 0
    first_look = Story()
    first_look.tick(
        crash + b"== attempt 2 of run train-k3f9, expected 1\nEpoch 1/9\n", attempt=known(attempt(2))
    )
    assert first_look.history.crash_lines == 0


def test_step_time_and_eta_are_learnt():  # R147
    story = Story()
    for n in range(1, 6):
        verdict = story.tick(f"Epoch {n * 5}/90\n".encode())
    assert verdict.progress.usual_step_s == 60.0
    assert verdict.progress.eta_s == pytest.approx(65 * 60.0, abs=5)
    assert story.history.recent == (5, 10, 15, 20, 25)
    assert "ETA 1 h" in verdict.summary


def test_a_trainer_that_only_prints_bars_is_read_at_the_first_look():  # R147
    story = Story()
    verdict = story.tick(b"\rEpoch 3/90:  37%|### | 37/100 [00:12<00:20, 3.1it/s, loss=0.31]", after_s=60)
    assert (verdict.progress.index, verdict.progress.total, verdict.progress.part) == (3, 90, 0.37)
    assert verdict.progress.eta_s == pytest.approx(87 * 32, abs=5)
    assert "epoch 3/90 (37 % of it)" in verdict.summary and "ETA 46 min" in verdict.summary
    verdict = story.tick(b"\rEpoch 3/90:  55%|### | 55/100 [00:18<00:14, 3.1it/s, loss=0.30]", after_s=60)
    assert (verdict.progress.part, verdict.progress.values) == (0.55, (("loss", "0.30"),))
    # What was measured from tick to tick counts more than the bar's word.
    for n in (4, 5, 6):
        verdict = story.tick(b"\rEpoch %d/90:  10%%|# | 10/100 [00:03<00:29, 3.1it/s]" % n, after_s=60)
    assert verdict.progress.usual_step_s == pytest.approx(60, abs=7)


def test_a_bars_own_time_to_go_is_told_and_grows_older():  # R147
    story = Story()
    verdict = story.tick(b"\r 37%|### | 37/100 [01:10<02:00,  1.9s/it]", after_s=60)
    assert verdict.progress.eta_s == pytest.approx(120, abs=2)
    assert "ETA 1 min" in verdict.summary or "ETA 2 min" in verdict.summary
    assert story.tick(after_s=60).progress.eta_s == pytest.approx(60, abs=2)
    assert [story.tick(after_s=60).progress.eta_s for _ in range(3)][-1] == 0
    # Also where the box has a folder of loops and none of them is this run's.
    story = Story()
    assert story.tick(b"\r 37%|### | 37/100 [01:10<02:00,  1.9s/it]", loops=known(())).progress.eta_s == 119


def test_a_heartbeat_says_since_when_its_counter_stands():  # R146 D9
    story = Story()
    story.tick(b"Batch 15/20 - loss: 0.4 - 1/s - ETA 0:00:05\n")
    verdict = story.tick(b"[HEARTBEAT 12:00:31] batch 15/20, 35 min ago\n", after_s=2100)
    assert verdict.row == "R-STALL-2"
    assert "heartbeat now, its counter moved 35 min ago" in verdict.summary
    assert any("its counter moved 35 min ago" in seen.says for seen in verdict.evidence)
    verdict = story.tick(b"[HEARTBEAT 12:30:31]\n")
    assert "its counter" not in verdict.summary
    verdict = story.tick(attempt=known(attempt(2)))
    assert story.history.stood_at is None


def test_a_finer_unit_renews_the_values_and_keeps_the_epoch():
    story = Story()
    story.tick(b"Epoch 3/9 - loss: 0.5\n")
    verdict = story.tick(b"Batch 7/100 - Loss: 0.4\n")
    assert (verdict.progress.index, verdict.progress.unit, verdict.progress.values) == (
        3,
        "epoch",
        (("loss", "0.4"),),
    )


def test_how_far_it_came_since_the_last_look_is_said_also_when_that_is_nothing():  # R39
    def since(verdict):
        return [seen.says for seen in verdict.evidence if seen.source == "since the last look"]

    story = Story()
    assert since(story.tick(b"Epoch 3/90\n")) == []
    assert since(story.tick(b"Epoch 4/90\nEpoch 5/90\n")) == ["2 epochs and 22 B of log more in 5 min"]
    assert since(story.tick()) == ["0 epochs and 0 B of log more in 5 min"]
    assert since(story.tick(after_s=FIVE_MIN)) == ["0 epochs and 0 B of log more in 5 min"]
    rotated = LogSlice("1:3", 11, BOX_NOW, 0, b"Epoch 6/90\n")  # its bytes cannot be compared, its steps can
    assert since(story.tick(log=known(rotated))) == ["1 epoch more in 5 min"]
    assert since(story.tick(attempt=known(attempt(2, ago_s=0.0)))) == []
    assert since(story.tick(b"Epoch 1/90\n", attempt=known(attempt(2, ago_s=0.0)), log=MISSING)) == []


def test_a_log_seen_for_the_first_time_late_is_stalled_at_once():
    of_run = run()
    seen = probe(
        facts(
            attempt=known(attempt(ago_s=9000)),
            log=known(LogSlice("1:2", 10, BOX_NOW - 5000, 0, b"Epoch 1/9\n")),
        )
    )
    history = fold(History(), of_run, seen, NOW)
    assert decide(of_run, seen, history, NOW).row == "R-STALL-1"


def test_the_box_clock_and_not_ours_judges_its_files():  # R52
    # Box one hour ahead of us: its files look as if from the future, and are ten seconds old.
    of_run, ahead = run(), 3600.0
    values = facts(
        attempt=known(attempt(ago_s=-ahead + 100)),
        log=known(LogSlice("1:2", 10, BOX_NOW + ahead - 10, 0, b"Epoch 1/9\n")),
    )
    seen = msgspec.structs.replace(probe(values, box(now=BOX_NOW + ahead)), skew_s=SKEW + ahead)
    history = fold(History(), of_run, seen, NOW)
    verdict = decide(of_run, seen, history, NOW)
    assert verdict.row == "R-RUN-1"
    assert verdict.facts_at == NOW


@pytest.mark.parametrize("step_s", [7200.0, -7200.0])
def test_a_box_clock_that_is_set_is_no_stall_and_hides_none(step_s):  # R52
    of_run = run()
    log = known(LogSlice("1:2", 10, BOX_NOW - 1200, 0, b"Epoch 1/9\n"))
    values = facts(attempt=known(attempt(ago_s=9000)), log=log)
    first = probe(values)
    history = fold(History(), of_run, first, NOW)
    for minutes, row in ((5, "R-RUN-1"), (15, "R-STALL-1")):
        later = NOW + minutes * 60
        seen = msgspec.structs.replace(
            probe(values, box(now=later + SKEW + step_s)), at=later, skew_s=SKEW + step_s
        )
        history = fold(history, of_run, seen, later)
        assert decide(of_run, seen, history, later).row == row


@pytest.mark.parametrize("jump_s", [86400.0, -86400.0, 7200.0, -7200.0])
def test_our_own_clock_that_is_set_is_no_stall_and_hides_none(jump_s):  # R9 R52
    of_run = run()
    quiet = known(LogSlice("1:2", 10, BOX_NOW - 1200, 0, b"Epoch 1/9\n"))
    values = facts(attempt=known(attempt(ago_s=9000)), log=quiet)
    history = fold(History(), of_run, probe(values), NOW)
    for minutes, row in ((5, "R-RUN-1"), (15, "R-STALL-1")):
        later, ours = 60 * minutes, NOW + 60 * minutes + jump_s
        there = box(now=BOX_NOW + later, uptime_s=known(7200.0 + later))
        seen = msgspec.structs.replace(probe(values, there), at=ours, skew_s=SKEW - jump_s)
        history = fold(history, of_run, seen, ours)
        assert decide(of_run, seen, history, ours).row == row


def test_a_file_from_the_future_does_not_hide_a_stall_for_ever():
    of_run = run(artifacts=("*",))
    values = facts(
        attempt=known(attempt(ago_s=9000)),
        log=known(LogSlice("1:2", 0, BOX_NOW - 5000, 0, b"")),
        artifacts=known((artifact(ago_s=-(10**7)),)),
    )
    history = fold(History(), of_run, probe(values), NOW)
    assert history.advanced_at == BOX_NOW
    later = NOW + 4000
    seen = msgspec.structs.replace(probe(values, box(now=later + SKEW)), at=later)
    history = fold(history, of_run, seen, later)
    assert decide(of_run, seen, history, later).row == "R-STALL-1"


def test_failures_of_the_link_count_in_a_row_and_change_nothing_else():  # R14
    known_before = fold(History(), run(), probe(), NOW)
    history = known_before
    for count in range(1, 4):
        history = fold(history, run(), away(), NOW + count)
        assert (history.link_failures, history.link_since) == (count, NOW + 1)
    assert msgspec.structs.replace(history, link_failures=0, link_since=None) == known_before
    verdict = decide(run(), away(), history, NOW + 1860)
    assert verdict.summary.startswith("3rd tick · nothing listens on the port · last seen running 31 min ago")
    assert (verdict.facts_at, verdict.attempt) == (NOW, 1)
    assert fold(history, run(), probe(), NOW + 9).link_failures == 0


def test_kills_for_memory_count_since_the_attempt_began():  # R54
    of_run = run()
    history = fold(History(), of_run, probe(facts(), box(memory=known(Memory(1, 2, 5)))), NOW)
    assert history.oom_kills == 0
    history = fold(history, of_run, probe(facts(), box(memory=known(Memory(1, 2, 7)))), NOW)
    assert history.oom_kills == 2


def test_what_was_not_read_changes_nothing():
    of_run = run()
    before = fold(History(), of_run, probe(), NOW)
    after = fold(
        before,
        of_run,
        probe(facts(attempt=MISSING, end=MISSING, log=MISSING, markers=MISSING, artifacts=MISSING)),
        NOW,
    )
    assert after == before
    assert fold(before, of_run, probe(runs={}), NOW) == before


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"Epoch 1/9\n", BEAT, b"", b"half", b"\r 5%|#| 5/100 [0<1]", b"\n"]), max_size=8
    )
)
def test_a_history_survives_being_stored(parts):
    story = Story()
    for part in parts:
        story.tick(part)
    assert msgspec.json.decode(msgspec.json.encode(story.history), type=History) == story.history
    assert story.history.log_offset <= story.history.log_size == len(story.text)
    assert msgspec.json.decode(b"{}", type=History) == History(progress=Progress())


def test_the_machine_is_the_one_on_which_this_attempt_was_first_seen():
    first = folded(run(), probe(facts(), box(machine_id=known("a" * 32))))
    assert first.machine_id == "a" * 32
    moved = folded(run(), probe(facts(), box(machine_id=known("b" * 32))), first)
    assert moved.machine_id == "a" * 32
    unread = folded(run(), probe(facts(attempt=known(attempt(2))), box(machine_id=MISSING)), moved)
    assert unread.machine_id is None
    again = folded(run(), probe(facts(attempt=known(attempt(2))), box(machine_id=known("b" * 32))), unread)
    assert again.machine_id == "b" * 32
