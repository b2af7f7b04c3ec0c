import pytest
from hypothesis import given
from hypothesis import strategies as st

from patrol.progress import is_heartbeat, read_news

TQDM = " 37%|███▋      | 37/100 [00:12<00:20,  3.10it/s, loss=0.31]"

STEPS = {
    "Epoch 3/90": (3, 90, "epoch"),
    "epoch 3 of 90": (3, 90, "epoch"),
    "Epoch: 12": (12, None, "epoch"),
    "Epoch [4/20], Step [100/600], Loss: 0.2": (4, 20, "epoch"),
    "Batch 30/100 - Loss: 0.7": (30, 100, "batch"),
    "[PROGRESS] Epoch 5/50 - Train: 0.52, Val: 0.61": (5, 50, "epoch"),
    TQDM: (37, 100, "it"),
    "Epoch 3:  37%|███ | 37/100 [00:12<00:20, 3.1it/s]": (3, None, "epoch"),
    "Epoch:  37%|███▋ | 33/90 [00:12<00:20,  3.10it/s]": (33, 90, "epoch"),
    "Epochs:   3%|▎ | 3/90 [00:12<00:20]": (3, 90, "epoch"),
    "Training Epoch: 100%|█| 90/90 [00:12<00:00]": (90, 90, "epoch"),
    "Iteration:   5%|▎ | 5/100 [00:12<00:20]": (5, 100, "iter"),
    "step 400/1000 lr=0.001": (400, 1000, "step"),
    "global_step: 512": (512, None, "step"),
    "iter 120: loss 2.1": (120, None, "iter"),
    "iteration 9/10": (9, 10, "iter"),
    "step 12,345/100,000 | loss 2.31": (12345, 100000, "step"),
    "Step: 1,234,567 done": (1234567, None, "step"),
    "Epoch 3,step 12,345": (3, None, "epoch"),
    "epoch 1,200,0.512": (1, None, "epoch"),
    "epoch 4, 100 batches": (4, None, "epoch"),
    "\x1b[32mEpoch 7/9\x1b[0m": (7, 9, "epoch"),
}

NO_STEPS = (
    "epochs: 90",
    "stepping down",
    "Epoch time 3.5",
    "v1.2/3",
    "step 1.5",
    "reiterate 3",
    "downloaded 37/100 files",
    "2026-11-22 03:03:02 INFO done",
)

VALUES = {
    "loss: 0.41": (("loss", "0.41"),),
    "Loss = 4e-05, acc: 0.98": (("loss", "4e-05"), ("acc", "0.98")),
    "[PROGRESS] Epoch 5/50 - Train: 0.52, Val: 0.61": (("train", "0.52"), ("val", "0.61")),
    "val_loss=nan": (("val_loss", "nan"),),
    "loss: 0.1.2": (),
    "Validation: 37%|███ | 3/9 [00:12<?, ?it/s]": (),
    "loss: 3 %": (("loss", "3"),),
    "loss: high": (),
    "loss: 0,4123": (),
    "loss: 1,234.5": (),
    "loss: 3,acc: 0.5,0.6": (("loss", "3"), ("acc", "0.5")),
    "lossy: 3": (),
}

HEARTBEATS = (
    "[HEARTBEAT 10:00:01]",
    "heartbeat: pid 12, step 40/90",
    "[keepalive] ok",
    "keep-alive",
    "2026-11-22 job is still running",
    "still alive after 3 h",
    "Still waiting for the data loader",
)

BENIGN = (  # R41 D10
    "Mean Absolute Error: 0.3",
    "Error: 0.3",
    "ValidationError: 0.12",
    "MeanSquaredError: .5",
    "train Error rate = 4 %",
    "Killed 3 bugs in the loader",
    "Killed by hand: 0",
    "no Traceback here",
    "Error analysis finished",
    "errors: 0",
    "RuntimeErrors so far: 0",
    "Aborted trials: 2",
    "MaxError: nan",
    "0 exceptions, 0 failures",
    "Exception handling enabled",
    "loss went down; CUDA is available",
    "the segmentation fault line dataset",
    "Bus error correction: on",
    "Out of memory margin: 3 GB",
)

CRASHES = (
    "Traceback (most recent call last):",
    "[rank3]: Traceback (most recent call last):",
    "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB",
    "torch.cuda.OutOfMemoryError: CUDA out of memory.",
    "KeyError: 'labels'",
    "AssertionError",
    "MemoryError",
    "KeyboardInterrupt",
    "Fatal Python error: Segmentation fault",
    "Segmentation fault (core dumped)",
    "Killed",
    "./train.sh: line 3:  4711 Killed                  python train.py",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "cp: error writing 'x': No space left on device",
)


@pytest.mark.parametrize(("line", "want"), STEPS.items())
def test_steps(line, want):
    found = read_news(line.encode() + b"\n").progress
    assert (found.index, found.total, found.unit) == want


@pytest.mark.parametrize("line", NO_STEPS)
def test_what_is_no_step(line):
    found = read_news(line.encode() + b"\n").progress
    assert found is None or found.index is None


@pytest.mark.parametrize(("line", "want"), VALUES.items())
def test_values(line, want):
    found = read_news(line.encode() + b"\n").progress
    assert (found.values if found else ()) == want


@pytest.mark.parametrize("line", HEARTBEATS)
def test_a_heartbeat_is_no_line_and_no_step(line):  # R146 D9
    news = read_news(line.encode() + b"\n")
    assert (news.lines, news.heartbeats, news.progress, news.last_line, news.bar) == (0, 1, None, None, None)


@pytest.mark.parametrize(
    "line", ["Epoch 3/9", "alive_ratio: 3", "heartbeats of the patients: 71", "waiting is over"]
)
def test_what_is_no_heartbeat(line):
    assert not is_heartbeat(line)


def test_own_patterns_are_plain_text():  # R6 S19
    assert is_heartbeat("PING a.c", ("a.c",))
    assert not is_heartbeat("PING abc", ("a.c",))
    assert read_news(b"PING 1\nPING 2\n", ("PING", "")).heartbeats == 2


@pytest.mark.parametrize("line", BENIGN)
def test_ordinary_lines_are_no_crash(line):  # R41 D10
    assert read_news(line.encode() + b"\n").crash_lines == 0


@pytest.mark.parametrize("line", CRASHES)
def test_crashes_are_seen(line):
    assert read_news(line.encode() + b"\n").crash_lines == 1


def test_a_bar_counts_by_where_it_stands_and_not_by_being_drawn():  # R42
    drawn = "".join(f"\r 37%|███ | 37/100 [00:{second}<00:20, 3.1it/s]" for second in range(10, 20))
    news = read_news(drawn.encode())
    assert (news.lines, news.bar) == (0, "it 37/100")
    assert read_news(drawn.replace("37/", "38/").encode()).bar == "it 38/100"


BARS = {
    # Of what the run is counted by, then of the step in work: how much of it, how long a whole one takes.
    " 37%|███ | 37/100 [00:12<00:20, 3.1it/s]": (20.0, None, None),
    "Epoch:  37%|███ | 33/90 [01:00:12<1:00:20, 3.1s/it]": (3620.0, None, None),
    "train:  37%|███ | 33/90 [1 day, 0:00:12<2 days, 1:00:00, 3.1s/it]": (49 * 3600.0, None, None),
    "Epoch 3/90:  37%|███ | 37/100 [00:12<00:20, 3.1it/s]": (None, 0.37, 32.0),
    "Epoch 3:  37%|███ | 37/100 [00:12<00:20, 3.1it/s, loss=0.31, v_num=1]": (None, 0.37, 32.0),
    "Epoch 3:   0%| | 0/100 [00:00<?, ?it/s]": (None, 0.0, None),
    "Epoch 3/90: 100%|███| 100/100 [00:32<00:00, 3.1it/s]": (None, 1.0, 32.0),
    " 37%|███ | 37/100 [00:12<?, ?it/s]": (None, None, None),
    " 37%|███ | 37/100 [00:12<00:20:99:1, 3.1it/s]": (None, None, None),
    "Batch 15/20 - loss: 0.4987 - 3.21/s - ETA 0:00:02": (2.0, None, None),
    "Epoch 3/90 - eta: 1:20:00": (4800.0, None, None),
    "Epoch: [3]  [ 150/1251]  eta: 0:06:12  lr: 0.0001  loss: 3.4 (3.6)": (None, None, None),
    "Epoch [3][150/1251]  lr: 1.000e-04, eta: 1 day, 2:03:04, time: 0.350": (93784.0, None, None),
    "Epoch [4/20], Step [100/600], ETA: 1:20:00": (None, None, None),
    "Batch 15/20 - meta 0:00:02": (None, None, None),
}


@pytest.mark.parametrize(("line", "want"), BARS.items())
def test_times_to_go_are_read_for_what_they_are_about(line, want):  # R147
    found = read_news(line.encode() + b"\r").progress
    assert (found.eta_s, found.part, found.usual_step_s) == want


def test_a_time_to_go_holds_until_the_next_line_of_the_same_step():  # R147
    text = b"Epoch 3/90: 37%|# | 37/100 [00:12<00:20]\rEpoch 4/90 - loss: 0.3\n"
    assert (read_news(text).progress.part, read_news(text).progress.usual_step_s) == (None, None)
    text = b"Batch 15/20 - ETA 0:00:02\nBatch 16/20\n"
    assert read_news(text).progress.eta_s is None
    assert read_news(b"Batch 15/20 - ETA 0:00:02\nsaved\n").progress.eta_s == 2.0


@pytest.mark.parametrize(
    ("line", "stood_s"),
    [
        ("[HEARTBEAT 12:00:31] batch 15/20, 4 s ago", 4.0),
        ("[HEARTBEAT 12:00:31] epoch 2/9, batch 15, 35 min ago", 2100.0),
        ("[HEARTBEAT 12:00:31] batch 15/20, 3 h ago", 10800.0),
        ("[HEARTBEAT 12:00:31]", None),
        ("[HEARTBEAT 12:00:31] Training active...", None),
        ("[HEARTBEAT 12:00:31] " + "9" * 40 + " s ago", None),
    ],
)
def test_how_long_a_heartbeats_counter_stands_is_read(line, stood_s):  # R146 D9
    assert read_news(b"[HEARTBEAT 1] x 1/2, 7 s ago\n" + line.encode() + b"\n").stood_s == stood_s


def test_five_megabytes_of_one_bar():  # R42 D14
    text = b"".join(b"\r%3d%%|##| %d/100 [00:01<00:02]" % (n % 100, n % 100) for n in range(160_000))
    assert len(text) > 4_000_000
    assert read_news(text[-16384:], skip_first=True).progress.index == 99


def test_the_unfinished_line_is_shown_but_not_counted():
    news = read_news(b"Epoch 3/9\n[HEARTB")
    assert (news.lines, news.heartbeats, news.tail_bytes) == (1, 0, 7)
    assert news.last_line == "[HEARTB"


def test_the_first_line_is_left_out_when_it_is_only_a_piece():
    assert read_news(b"och 3/9\nEpoch 4/9\n", skip_first=True).lines == 1
    assert read_news(b"poch 99/100", skip_first=True).last_line is None


def test_lines_of_the_chain_itself_are_not_the_jobs():
    news = read_news(b"== attempt 1 of run train-k3f9, expected 0\n== stage 01-train, attempt 1, at 180\n")
    assert (news.lines, news.last_line) == (0, None)
    assert read_news(b"== Epoch 3 ==\n").lines == 1


def test_hostile_text_stays_bounded():  # S22
    line = read_news(b"A" * 100_000 + b"\n").last_line
    assert len(line) <= 400
    assert read_news(b"Epoch " + b"9" * 100 + b"/9\n").progress is None
    assert read_news(b"\x1b]0;title\x07Epoch 2/3\n").last_line == "Epoch 2/3"


@given(st.binary(max_size=3000), st.booleans())
def test_no_bytes_are_too_odd(content, skip):
    news = read_news(content, ("x",), skip_first=skip)
    assert news.tail_bytes <= len(content)
    assert news.last_line is None or len(news.last_line) <= 400


@given(st.lists(st.sampled_from([*HEARTBEATS, "Epoch 1/9", TQDM, "", "plain"]), max_size=20))
def test_every_line_counts_once_whatever_ends_it(lines):
    counts = [read_news("".join(line + mark for line in lines).encode()) for mark in ("\n", "\r\n", "\r")]
    assert {(news.lines, news.heartbeats, news.bar, news.last_line) for news in counts} == {
        (counts[0].lines, counts[0].heartbeats, counts[0].bar, counts[0].last_line)
    }
    assert counts[0].lines == sum(line in {"Epoch 1/9", "plain"} for line in lines)
