"""Programs with `progress` and `report` in them: what stands on their standard output, and in the file."""

import ast
import os
import subprocess

import pytest
from loops import ROOT
from spoken import HEAD, ended, lines
from waiting import wait_until

pytestmark = pytest.mark.timeout(180)
LOOPS = {
    "a list": ("progress([7] * 12)", [1, 5, 10, 12], "/12"),
    "a number": ("progress(12, every=4)", [1, 4, 8, 12], "/12"),
    "a generator": ("progress(n for n in range(6))", [1, 5, 6], ""),
    "a generator whose length is said": ("progress(iter([1, 2, 3]), total=3)", [1, 3], "/3"),
    "more than was said": ("progress(iter([1, 2, 3]), total=2)", ["1/2", "3"], ""),
    "one that raises in __len__": ("progress(Odd())", [1, 2], ""),
    "nothing": ("progress([])", [], ""),
    "from the middle": ("progress(10, initial=4)", [5, 10], "/10"),
    "every one": ("progress('abc', every=1)", [1, 2, 3], "/3"),
    "no such every": ("progress('abcdef', every='x')", [1, 5, 6], "/6"),
    "every none": ("progress('ab', every=0, heartbeat_s='x', total='y')", [1, 2], "/2"),
}
ODD = """
class Odd:
    def __len__(self): raise RuntimeError("no")
    def __iter__(self): return iter([1, 2])
"""


def test_a_line_stands_for_the_first_every_fifth_and_the_last(program, each_python):  # R145
    loops = "".join(f"for item in {loop}: pass\nprint({name!r})\n" for name, (loop, _, _) in LOOPS.items())
    one = ended(program, ODD + loops, python=each_python)
    want = []
    for name, (_, said, of) in LOOPS.items():
        want += [f"Batch {n}{of}" for n in said] + [name]
    assert lines(one) == want


QUICK = """
began = time.monotonic()
for epoch in progress(range(6), label="epoch"):
    for n in progress(range(10_000)): pass
    print(time.monotonic() - began)
    time.sleep(1.1 if epoch == 4 else 0)
for n in progress(range(10_000), label="asked", every=5): pass
"""


def test_a_quick_loop_does_not_flood_the_log_unless_it_was_asked_to(program, python):  # R145
    said = [line.split()[0] for line in ended(program, QUICK, python=python).out().splitlines()]
    took_s = max(float(word) for word in said if word[0].isdigit())
    # The first and the last of each loop, a hundred, and one a second of each.
    assert 100 <= said.count("Batch") <= 100 + 6 * 2 + took_s + 6, took_s
    assert said.count("Epoch") == 3, "the first, the fifth which is slow, the last"
    assert said.count("Asked") == 2001


def test_items_are_the_iterables_own_and_epochs_hold_batches(program, python):  # R145 R147
    one = ended(
        program,
        """
for epoch in progress(range(1, 3), label="epoch"):
    for batch in progress([10, 20, 30]):
        progress.track(loss=1 / batch)
    report(epoch, 2, train_loss=0.5, val_loss=0.51)
print(epoch, batch)
""",
        python=python,
    )
    batches = ["Batch 1/3 - loss: 0.1", "Batch 3/3 - loss: 0.0333333"]
    values = "train_loss: 0.5, val_loss: 0.51"
    of_epochs = [(f"[PROGRESS] Epoch {n}/2 - {values}", f"Epoch {n}/2 - {values}") for n in (1, 2)]
    assert lines(one) == [*batches, *of_epochs[0], *batches, *of_epochs[1], "2 30"]
    assert one.left_behind() == []
    assert one.ends()[1]["state"]["tracked"] == {"train_loss": 0.5, "val_loss": 0.51}
    assert one.ends()[2]["history"]["loss"] == [[1, 0.1], [2, 0.05], [3, 1 / 30]]


def test_the_file_and_standard_output_agree(program):  # R145
    one = ended(
        program,
        """
import os
for epoch in (1, 2):
    report(epoch, 2, loss=epoch / 4)
    said = open("PROGRESS.txt").read()
    assert said.startswith("[PROGRESS] Epoch %d/2 - loss: %s" % (epoch, epoch / 4)), said
for n in progress(7, file="batches.txt"): pass
report(3, file=None)
print(oct(os.stat("PROGRESS.txt").st_mode & 0o777), sorted(os.listdir()))
""",
    )
    whole = one.out().splitlines()
    assert (one.cwd / "PROGRESS.txt").read_text().splitlines() == [whole[1]]
    assert (one.cwd / "batches.txt").read_text().splitlines() == [
        line for line in whole if line.startswith("Batch")
    ][-1:]
    assert whole[-2].startswith("[PROGRESS] Epoch 3 - ")
    names = ast.literal_eval(whole[-1].partition(" ")[2])
    assert [name for name in names if "ROGRESS" in name] == ["PROGRESS.txt"], "no temporary is left"


UNWRITABLE = {
    "folder": "folder",
    "missing/PROGRESS.txt": "PROGRESS.txt",
    "pipe": "pipe",  # stands for all that must not be renamed over: with root's rights it could be a device
}


def test_a_file_that_cannot_be_written_is_said_once_and_nothing_is_raised(program):  # R145
    reports = "".join(f"for epoch in (1, 2): report(epoch, 2, file={where!r})\n" for where in UNWRITABLE)
    one = ended(program, f"import os\nos.mkdir('folder')\nos.mkfifo('pipe')\n{reports}")
    said = lines(one)
    assert len(said) == 3 * len(UNWRITABLE)
    for name, place in zip(UNWRITABLE.values(), range(0, len(said), 3), strict=True):
        first, why, second = said[place : place + 3]
        assert (first, second) == ("[PROGRESS] Epoch 1/2", "[PROGRESS] Epoch 2/2")
        assert why.startswith(f"[PROGRESS] {name} cannot be written: ")
    assert (one.cwd / "pipe").is_fifo()


def test_a_link_is_followed_and_stays_one(program):
    one = ended(
        program,
        'import os; os.mkdir("real"); os.symlink("real/p", "p"); open("real/p", "w").close(); report(1, file="p")',
    )
    assert (one.cwd / "p").is_symlink()
    assert (one.cwd / "real/p").read_text().startswith("[PROGRESS] Epoch 1 - ")


LEAVING = {
    "break": ("break", 0, "left"),
    "raise": ("raise KeyError(7)", 1, "exception"),
    "caught": ("raise ValueError", 0, "left"),
    "exit": ("sys.exit(3)", 3, "left"),
    "interrupted": ("raise KeyboardInterrupt", 130, "signal"),
}


@pytest.mark.parametrize("how", LEAVING)
def test_a_loop_that_is_left_says_no_item_that_was_not_finished(how, program, python):  # R145 R146
    body, code, said = LEAVING[how]
    one = program(
        HEAD
        + f"""
import threading
try:
    for n in progress(20, heartbeat_s=30):
        if n == 7:
            {body}
except ValueError: pass
print([t.name for t in threading.enumerate() if t.is_alive()], flush=True)
""",
        python=python,
    )
    assert one.end(60) == (-2 if code == 130 else code), one.err()
    want = ["Batch 1/20", "Batch 5/20"]
    if code == 0:
        want.append("['MainThread']")
    assert lines(one) == want
    assert one.ends()[1]["ended"] == said
    assert one.ends()[1]["state"]["iteration"] == 7


def test_a_source_that_raises_raises_and_nothing_is_said_of_it(program):
    one = ended(
        program,
        """
def source():
    yield 1
    yield 2
    raise OSError("the loader died")
try:
    for item in progress(source(), every=3): pass
except OSError as error: print(error)
""",
    )
    assert lines(one) == ["Batch 1", "the loader died"]


def test_a_loop_that_is_asked_to_leave_obeys_and_its_last_line_is_true(program):  # R145
    turning = """
for n in progress(10**6, every=10**6):
    if n == 3: print("begun", flush=True)
    time.sleep(0.01)
print("behind", n + 1, flush=True)
"""
    one = program(HEAD + turning).begun()
    assert one.last("peek")["state"]["total"] == 10**6
    assert one.last("continue")["ok"]
    assert one.end(60) == 0
    said = lines(one)
    assert said[-2].split()[1] == f"{said[-1].split()[1]}/1000000"
    two = program(HEAD + turning).begun()
    assert two.last("break")["ok"]
    assert two.end(60) == 88
    assert lines(two)[-1].startswith("Batch ") and two.ends()[1]["ended"] == "broken"


FOREIGN = """
import gc, weakref
class Loss:
    ndim = 0
    def __init__(self, value): self.value = value
    def item(self): return self.value
    def __float__(self): return self.value
class Odd:
    def __float__(self): raise RuntimeError("no")
    def __str__(self): raise RuntimeError("no")
class Float:
    def __float__(self): return 0.25
seen = []
for n in progress(2, every=1):
    loss = Loss(float("nan") if n else 0.5)
    seen.append(weakref.ref(loss))
    progress.track(loss=loss, other=Float(), odd=Odd(), many=[loss] * 3, name="a\\nb")
    del loss
    gc.collect()
    print([one() for one in seen])
report(1, loss=Loss(0.125), odd=Odd(), file=None)
"""


def test_a_loss_of_any_kind_is_a_number_in_the_line_and_is_not_kept_alive(program, each_python):  # R145
    one = ended(program, FOREIGN, python=each_python)
    assert lines(one) == [
        "[None]",
        "Batch 1/2 - loss: 0.5, other: 0.25, name: a b",
        "[None, None]",
        "Batch 2/2 - loss: nan, other: 0.25, name: a b",
        "[PROGRESS] Epoch 1 - loss: 0.125",
    ]


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("12", False), ("x", True)])
def test_of_ranks_the_first_speaks(rank, speaks, program):  # R145
    text = """
with heartbeat(0.01):
    for n in progress(range(3), heartbeat_s=0.01):
        progress.track(loss=0.5)
        time.sleep(0.05)
    report(1)
"""
    one = ended(program, text, env={"RANK": rank})
    assert bool(one.out()) is speaks
    assert (one.cwd / "PROGRESS.txt").exists() is speaks
    assert one.ends()[1]["state"]["tracked"] == {"loss": 0.5}, "it can be asked all the same"
    assert one.err() == ""


def test_a_rank_may_be_said_by_the_program(program):
    one = ended(
        program,
        "for n in progress(2, group='g', rank=3, world=4): pass\nfor n in progress(2, group='g', rank=0, world=4): pass",
    )
    assert lines(one) == ["Batch 1/2", "Batch 2/2"]


def test_a_loop_in_a_thread_and_values_from_another(program):
    one = ended(
        program,
        """
import threading
def work():
    for n in progress(2):
        other = threading.Thread(target=progress.track, kwargs={"loss": n})
        other.start(); other.join()
worker = threading.Thread(target=work)
worker.start(); worker.join()
progress.track(loss=3)
""",
    )
    assert lines(one) == ["Batch 1/2 - loss: 0", "Batch 2/2 - loss: 1"]


@pytest.mark.parametrize(
    "stdout",
    ["sys.stdout.close()", "sys.stdout = None", "import os; os.close(1)", "sys.stdout = object()"],
)
def test_without_a_standard_output_the_loop_runs_and_the_file_is_written(stdout, program):
    one = program(
        HEAD
        + f"""
{stdout}
with heartbeat(0.01):
    for n in progress(12, heartbeat_s=0.01): time.sleep(0.01)
    report(1, 2)
open("count", "w").write(str(n))
""",
    )
    one.end(60)  # an interpreter may complain of a stream that it cannot close
    assert (one.cwd / "count").read_text() == "11"
    assert (one.cwd / "PROGRESS.txt").read_text().startswith("[PROGRESS] Epoch 1/2")
    assert "Traceback" not in one.err()


def test_a_full_pipe_holds_nothing_up(program, each_python):  # R145
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    one = program(
        HEAD
        + """
began = time.monotonic()
with heartbeat(0.01):
    for n in progress(200, heartbeat_s=0.01, every=1): pass
    report(1, 2)
print(unbuffered() == "", time.monotonic() - began < 30, file=sys.stderr)
""",
        python=each_python,
        stdout=writing,
        env={"PYTHONUNBUFFERED": ""},
    )
    os.close(writing)
    assert one.end(60) == 0
    os.close(reading)
    assert one.err().split() == ["True", "True"]
    assert (one.cwd / "PROGRESS.txt").read_text().startswith("[PROGRESS] Epoch 1/2")


def test_a_reader_that_left_ends_nothing(program):
    reading, writing = os.pipe()
    os.close(reading)
    one = program(
        HEAD + "for n in progress(20): pass\nreport(1)\nprint('ok', file=sys.stderr)", stdout=writing
    )
    os.close(writing)
    assert one.end(60) == 0
    assert one.err() == "ok\n"


def test_a_pipe_of_one_page_is_spoken_into_while_it_is_read(program):
    import fcntl

    reading, writing = os.pipe()
    fcntl.fcntl(writing, 1031, 4096)  # F_SETPIPE_SZ
    one = program(HEAD + "for n in progress(3, every=1): time.sleep(0.2)", stdout=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert [line.split()[1] for line in pipe.read().splitlines()] == [b"1/3", b"2/3", b"3/3"]
    assert one.end(60) == 0


def test_ascii_and_foreign_streams(program, python):
    one = ended(
        program,
        """
import io
for n in progress(1, label="\\u00e9poque"): progress.track(**{"\\u03b2": 1, "x": "\\ud800"})
sys.stdout = io.StringIO()
for n in progress(1): pass
heard = sys.stdout.getvalue()
class Bare:
    def __init__(self): self.text = ""
    def write(self, text): self.text += text
    def flush(self): pass
sys.stdout = bare = Bare()
report(1, file=None)
sys.stdout = sys.__stdout__
print(heard.split()[:2], bare.text.split()[:3])
""",
        python=python,
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert lines(one)[0].startswith("?poque 1/1 - ?: 1")
    assert lines(one)[-1] == "['Batch', '1/1'] ['[PROGRESS]', 'Epoch', '1']"


BUFFERED = HEAD + "import os\nprint('one')\nway = unbuffered()\nprint('two', repr(way))\nos._exit(0)"
FORMS = {
    "-u": (("-u",), {}, "'-u'"),
    "the variable": ((), {"PYTHONUNBUFFERED": "1"}, "'PYTHONUNBUFFERED'"),
    "neither": ((), {"PYTHONUNBUFFERED": ""}, "'line buffering'"),
    "both": (("-u",), {"PYTHONUNBUFFERED": "1"}, "'PYTHONUNBUFFERED'"),
    "the variable, not looked at": (("-E",), {"PYTHONUNBUFFERED": "1"}, "'line buffering'"),
}


@pytest.mark.parametrize("form", FORMS)
def test_three_launch_forms_and_the_one_that_is_none(form, program, each_python):  # R148 D8 R73
    flags, env, way = FORMS[form]
    one = program(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{BUFFERED}", python=each_python, flags=flags, env=env
    )
    assert one.end(60) == 0, one.err()
    # os._exit throws away what waits in a buffer: without any of the three nothing would stand there.
    assert one.out().splitlines() == ["one", f"two {way}"]


def test_the_broken_ways_are_broken_and_ours_is_not(program):  # D8
    late = "import os, sys\nos.environ['PYTHONUNBUFFERED'] = '1'\nprint('lost')\nos._exit(0)"
    one = program(late, env={"PYTHONUNBUFFERED": ""})
    assert (one.end(60), one.out()) == (0, ""), "the variable set inside of the process changes nothing"
    two = program(HEAD + late.replace("print", "print(unbuffered()); print"), env={"PYTHONUNBUFFERED": ""})
    assert (two.end(60), two.out()) == (0, "line buffering\nlost\n")
    three = program("import os, sys\nos.fdopen(sys.stdout.fileno(), 'w', 0)")
    assert three.end(60) == 1
    assert "can't have unbuffered text I/O" in three.err()


def test_a_loop_alone_makes_what_the_program_prints_appear_at_once(program):  # R148 R73
    one = program(
        HEAD + "for n in progress(9): print('mine', n); time.sleep(60 if n else 0)",
        env={"PYTHONUNBUFFERED": ""},
    )
    wait_until(lambda: "mine 1" in one.out(), 45, f"the program's own line; {one.err()}")


def test_without_onbox_nothing_is_imported_that_is_heavy():
    import sys

    said = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; sys.path.insert(0, '.'); import onbox.pulse; print(sorted(n for n in sys.modules if 'onbox' in n), 'threading' in sys.modules)"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    assert said == "['onbox', 'onbox.pulse'] False\n"
