import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.patrol.build import BOX_ID, NONCE, run

from fleet.errors import ProbeUnreadable
from fleet.model.probe import Alive, Attempt, Disk, End, Gpu, Locks, Memory, Reachable, Stopping
from fleet.model.reading import Known, Missing
from fleet.text.frame import Section
from patrol.decide import decide
from patrol.history import History, fold
from patrol.readers import read_probe
from patrol.readers.artifacts import read_artifacts
from patrol.readers.disk import read_disks
from patrol.readers.gpu import read_gpus
from patrol.readers.log import read_log
from patrol.readers.machine import read_boot_id, read_box_id, read_clock, read_machine_id, read_uptime
from patrol.readers.memory import read_memory
from patrol.readers.processes import read_alive, read_locks
from patrol.readers.records import (
    read_attempt,
    read_budget,
    read_end,
    read_exists,
    read_markers,
    read_stopping,
)

PROBES = sorted((Path(__file__).parents[2] / "data/probes").glob("*.json"))
MIB = 1024 * 1024


def section(text, status=0, name="x"):
    return Section(
        name, None, status, text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    )


def told(reading):
    """A reading as a case in a table says it: its value, or `missing: why`."""
    return f"missing: {reading.why}" if isinstance(reading, Missing) else reading.value


# Real transcripts


def part(seen: Reachable, facts, path):
    head, *rest = path.split(".")
    value = told(getattr(facts if hasattr(facts, head) else seen.box, head))
    for step in rest:
        value = value[int(step)] if step.isdigit() else getattr(value, step)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("path", PROBES, ids=lambda path: path.stem)
def test_real_answers_read_as_what_they_were(path):
    case = json.loads(path.read_text())
    sections = [
        Section(name, of, status, text.encode("utf-8", "surrogateescape"))
        for name, of, status, text in case["sections"]
    ]
    of_run = msgspec.structs.replace(
        run(artifacts=tuple(case["artifacts"])), run_id=case["run_id"], nonce=case["nonce"]
    )
    clock = read_clock(next(found for found in sections if found.name == "clock"))
    seen = read_probe(sections, [of_run], at=clock - 2, took_s=0.3)
    assert (seen.box.now, seen.skew_s) == (clock, 2)
    want = dict(case["want"])
    row = want.pop("row")
    for where, value in want.items():
        assert part(seen, seen.runs[of_run.run_id], where) == value, where
    assert decide(of_run, seen, fold(History(), of_run, seen, clock), clock).row == row


@pytest.mark.parametrize("damage", ["left out", "no figure"])
@pytest.mark.parametrize("path", PROBES, ids=lambda path: path.stem)
def test_an_answer_that_lacks_a_part_is_never_better_than_the_whole(path, damage):  # R22
    case = json.loads(path.read_text())
    of_run = msgspec.structs.replace(
        run(artifacts=tuple(case["artifacts"])), run_id=case["run_id"], nonce=case["nonce"]
    )
    found = [
        Section(name, of, status, text.encode("utf-8", "surrogateescape"))
        for name, of, status, text in case["sections"]
    ]
    clock = read_clock(next(section for section in found if section.name == "clock"))

    def judged(sections):
        seen = read_probe(sections, [of_run], at=clock - 2, took_s=0.3)
        return decide(of_run, seen, fold(History(), of_run, seen, clock), clock)

    whole, doubted = judged(found), set()
    for place, section in enumerate(found):
        spoilt = [] if damage == "left out" else [msgspec.structs.replace(section, content=b"\x7f nothing\n")]
        rest = [*found[:place], *spoilt, *found[place + 1 :]]
        if section.name == "clock":
            with pytest.raises(ProbeUnreadable):
                judged(rest)
        elif judged(rest).row != whole.row:
            assert judged(rest).exit_code == 12, section.name
            doubted.add(section.name)
    rests_on = (
        {"attempt", "end"} if damage == "left out" else {"attempt"}
    )  # who is not there says nothing wrong
    assert doubted >= rests_on or whole.row in ("R-LOST-2", "R-RECORD-1")


def test_there_are_real_answers():
    assert len(PROBES) >= 4


# The box

DF_K = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n"
DF_I = "Filesystem       Inodes  IUsed    IFree IUse% Mounted on\n"
DISKS = {
    "plain": (["-\n" + DF_K + "/dev/vda  200 150 50  75% /\n"], ["-\n" + DF_I + "/dev/vda 100 3 97 3% /\n"], (Disk("-", "/", 75.0, 50 * 1024, 3.0),)),
    "no inodes counted": (["-\n" + DF_K + "btrfs 200 100 100 50% /data\n"], ["-\n" + DF_I + "btrfs 0 0 0 - /data\n"], (Disk("-", "/data", 50.0, 102400, None),)),
    "dashes": (["-\n" + DF_K + "x 200 100 100 50% /d\n"], ["-\n" + DF_I + "x - - - - /d\n"], (Disk("-", "/d", 50.0, 102400, None),)),
    "inodes could not be read": (["-\n" + DF_K + "x 200 100 100 50% /d\n"], [], (Disk("-", "/d", 50.0, 102400, None),)),
    "spaces": (["/a b\n" + DF_K + "//nas/my share 200 100 100 50% /mnt/my share\n"], [], (Disk("/a b", "/mnt/my share", 50.0, 102400, None),)),
    "full, and more than full": (["-\n" + DF_K + "x 200 210 -10 100% /\n"], [], (Disk("-", "/", 100.0, 0, None),)),
    "nothing at all": (["-\n" + DF_K + "proc 0 0 0 - /proc\n"], [], (Disk("-", "/proc", 0.0, 0, None),)),
    "only a header": (["-\n" + DF_K], [], "missing: df of disk 1 is malformed"),
    "words for figures": (["-\n" + DF_K + "x a b c d% /\n"], [], "missing: df of disk 1 is malformed"),
    "too many digits": (["-\n" + DF_K + f"x 1 {'9' * 30} 1 1% /\n"], [], "missing: df of disk 1 is malformed"),
    "not asked": ([], [], "missing: df: the answer does not hold it"),
}  # fmt: skip


@pytest.mark.parametrize("case", DISKS)
def test_disks(case):  # R48 D11
    blocks, inodes, want = DISKS[case]
    assert (
        told(read_disks([section(text) for text in blocks], [section(text) for text in inodes], 1.0)) == want
    )


def test_a_disk_that_hangs_is_missing_and_not_empty():
    assert (
        told(read_disks([section("-\n", 124)], [], 1.0)) == "missing: df of disk 1 did not answer in its time"
    )


MEMORY = {
    "v2, max is no limit": ("v2 100 max 3\nmeminfo 1000 400", Memory(600 * 1024, 1000 * 1024, 3)),
    "v2, a limit": ("v2 100 2000 0\nmeminfo 1000 400", Memory(100, 2000, 0)),
    "v2, the level above is tighter": (
        "v2 100 2000 0\nv2 900 1000 4\nmeminfo 1000 400",
        Memory(900, 1000, 4),
    ),
    "v1 without a limit": (
        "v1 100 9223372036854771712 2\nmeminfo 1000 400",
        Memory(600 * 1024, 1000 * 1024, 2),
    ),
    "v1, a limit": ("v1 100 2000 1\nmeminfo 1000 400", Memory(100, 2000, 1)),
    "a limit above the machine is none": (
        "v1 100 99999999999 0\nmeminfo 1000 400",
        Memory(600 * 1024, 1000 * 1024, 0),
    ),
    "no machine": ("v2 100 max -\nmeminfo - -", Memory(100, None, None)),
    "limit, no machine": ("v2 100 200 -\nmeminfo - -", Memory(100, 200, None)),
    "nothing": ("meminfo - -", "missing: memory: neither a cgroup nor /proc/meminfo could be read"),
    "junk": (
        "v2 a b c\nv2 1\nv3 1 2 3\n\0",
        "missing: memory: neither a cgroup nor /proc/meminfo could be read",
    ),
    "less than free": ("meminfo 100 400", Memory(0, 100 * 1024, None)),
}


@pytest.mark.parametrize("case", MEMORY)
def test_memory(case):  # R43 D2
    text, want = MEMORY[case]
    assert told(read_memory(section(text), 1.0)) == want


GPUS = {
    "two": ("0, NVIDIA H100 80GB HBM3, 94, 70000, 81559\n1, NVIDIA H100 80GB HBM3, 0, 1, 81559\n",
            (Gpu(0, "NVIDIA H100 80GB HBM3", 94.0, 70000 * MIB, 81559 * MIB), Gpu(1, "NVIDIA H100 80GB HBM3", 0.0, MIB, 81559 * MIB))),
    "a name with a comma": ("0, Odd, Name, 1, 2, 3\n", (Gpu(0, "Odd, Name", 1.0, 2 * MIB, 3 * MIB),)),
    "not told": ("0, NVIDIA H100, [N/A], 70000, 81559\n", "missing: nvidia-smi does not tell the figures of device 0"),
    "above 100": ("0, X, 900, 1, 2\n", "missing: nvidia-smi does not tell the figures of device 0"),
    "words": ("No devices were found\n", "missing: nvidia-smi does not tell the figures of device 0"),
    "empty": ("", "missing: nvidia-smi names no device"),
    "a flood": ("0, X, 1, 1, 2\n" * 999, "missing: nvidia-smi names too many devices"),
}  # fmt: skip


@pytest.mark.parametrize("case", GPUS)
def test_gpus(case):  # R44
    text, want = GPUS[case]
    assert told(read_gpus(section(text), 1.0)) == want


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (127, "is not installed on the box"),
        (124, "did not answer in its time"),
        (9, "could not be read (status 9)"),
    ],
)
def test_a_gpu_that_was_not_read_is_not_idle(status, why):
    assert told(read_gpus(section("", status), 1.0)) == f"missing: nvidia-smi {why}"


def test_clock_and_uptime():
    assert read_clock(section("1800000000\n12.5 3.4\n")) == 1800000000.0
    assert told(read_uptime(section("1800000000\n12.5 3.4\n"), 1.0)) == 12.5
    assert told(read_uptime(section("1800000000\n"), 1.0)) == "missing: /proc/uptime is not a number"


@pytest.mark.parametrize(
    "bad",
    [
        None,
        section("", 0),
        section("soon"),
        section("-5"),
        section("1e9"),
        section("9" * 40),
        section("1800000000", 1),
    ],
)
def test_without_a_clock_there_is_no_answer(bad):
    with pytest.raises(ProbeUnreadable):
        read_clock(bad)


def test_identities():
    assert told(read_box_id(section(f"id={BOX_ID}\n"), 1.0)) == BOX_ID
    assert told(read_box_id(section("id=short\n"), 1.0)) == "missing: the box record is malformed"
    assert told(read_box_id(section("", 2), 1.0)) == "missing: the box record is not there"
    boot = "c34b7f08-4b58-4504-8332-1b4db24d5edc"
    assert told(read_boot_id(section(boot + "\n"), 1.0)) == boot
    assert told(read_boot_id(section("c34b7f08"), 1.0)) == "missing: the boot id is malformed"


# A run's records

ATTEMPT = f"nonce={NONCE}\nattempt=2\npid=4100\nborn=77\nboot=aa-11\nstarted_at=1800000000\nhow=tmux\n"
ATTEMPTS = {
    "whole": (ATTEMPT, Attempt(2, 4100, 77, "aa-11", 1800000000.0)),
    "another nonce": (ATTEMPT.replace(NONCE, "f" * 32), "missing: the attempt record carries another run's nonce"),
    "no nonce": ("attempt=2\n", "missing: the attempt record carries no nonce"),
    "a nonce with a blank": (ATTEMPT.replace(NONCE, NONCE + " "), "missing: the attempt record carries another run's nonce"),
    "empty": ("", "missing: the attempt record carries no nonce"),
    "attempt 0": (ATTEMPT.replace("attempt=2", "attempt=0"), "missing: the attempt record is malformed"),
    "a word": (ATTEMPT.replace("pid=4100", "pid=four"), "missing: the attempt record is malformed"),
    "unicode digits": (ATTEMPT.replace("attempt=2", "attempt=٢"), "missing: the attempt record is malformed"),
    "a huge number": (ATTEMPT.replace("attempt=2", "attempt=" + "9" * 30), "missing: the attempt record is malformed"),
    "a key twice": (ATTEMPT + "attempt=3\n", "missing: the attempt record is malformed"),
    "no key": (ATTEMPT + "hello\n", "missing: the attempt record is malformed"),
    "a flood": (ATTEMPT + "".join(f"k{n}=1\n" for n in range(99)), "missing: the attempt record is malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", ATTEMPTS)
def test_attempts(case):
    text, want = ATTEMPTS[case]
    assert told(read_attempt(section(text), NONCE, 1.0)) == want


def test_no_record_is_known_and_an_unread_one_is_not():
    assert read_attempt(section("", 2), NONCE, 1.0) == Known(None, 1.0, "attempt")
    assert read_end(section("", 2), NONCE, 1.0) == Known(None, 1.0, "end")
    assert told(read_attempt(None, NONCE, 1.0)) == "missing: the attempt record: the answer does not hold it"
    assert told(read_end(section("", 3), NONCE, 1.0)) == "missing: the end record is not a plain file"


END = (
    f"nonce={NONCE}\nstate=failed\nattempt=2\nstage=02-train\nrc=137\nsignal=9\nhow=waitid\nwhy=signal\n"
    "leftovers=12 13\nstarted_at=100\nended_at=200\n"
)
DONE = f"nonce={NONCE}\nstate=done\nattempt=1\nstage=-\nrc=0\nsignal=-\nhow=-\nwhy=-\nleftovers=-\nstarted_at=1\nended_at=2\n"
ENDS = {
    "failed": (END, End("failed", 2, "02-train", 137, 9, "signal", 100.0, 200.0, (12, 13))),
    "done": (DONE, End("done", 1, None, 0, None, "-", 1.0, 2.0)),
    "stopped": (DONE.replace("state=done", "state=stopped").replace("why=-", "why=stopped"), End("stopped", 1, None, 0, None, "stopped", 1.0, 2.0)),
    "done with a failure's reason": (DONE.replace("why=-", "why=exit"), "missing: the end record is malformed"),
    "failed without a reason": (END.replace("why=signal", "why=-"), "missing: the end record is malformed"),
    "a state of its own": (DONE.replace("done", "perfect"), "missing: the end record is malformed"),
    "a stage that is a path": (END.replace("02-train", "../x"), "missing: the end record is malformed"),
    "a signal that is none": (END.replace("signal=9", "signal=900"), "missing: the end record is malformed"),
    "a status that is none": (END.replace("rc=137", "rc=1000"), "missing: the end record is malformed"),
    "words for pids": (END.replace("12 13", "12 x"), "missing: the end record is malformed"),
    "a flood of pids": (END.replace("12 13", " ".join(["7"] * 999)), "missing: the end record is malformed"),
    "another nonce": (DONE.replace(NONCE, "0" * 32), "missing: the end record carries another run's nonce"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_ends(case):  # R62
    text, want = ENDS[case]
    assert told(read_end(section(text), NONCE, 1.0)) == want


MARKER = f"nonce={NONCE}\nstage=01-prepare\nattempt=1\nstarted_at=1\nended_at=2\n"
MARKERS = {
    "none": ("0", [], []),
    "one": ("1", ["01-prepare\n" + MARKER], ["01-prepare"]),
    "in the order of their names": ("2", ["02-b\n" + MARKER.replace("01-prepare", "02-b"), "01-prepare\n" + MARKER], ["01-prepare", "02-b"]),
    "one is not in the answer": ("2", ["01-prepare\n" + MARKER], "missing: the markers: not all of them are in the answer"),
    "of another run": ("1", ["01-prepare\n" + MARKER.replace(NONCE, "f" * 32)], "missing: the marker of 01-prepare carries another run's nonce"),
    "a copy under another name": ("1", ["02-train\n" + MARKER], "missing: the marker of 02-train is malformed"),
    "a bare touch": ("1", ["01-prepare\n"], "missing: the marker of 01-prepare carries no nonce"),
    "a name that is none": ("1", ["x\x1b[2J\n" + MARKER], "missing: a marker is malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", MARKERS)
def test_markers(case):  # R62
    count, texts, want = MARKERS[case]
    reading = read_markers(section(count), [section(text) for text in texts], NONCE, 1.0)
    assert (
        [marker.stage for marker in reading.value] if isinstance(reading, Known) else told(reading)
    ) == want


WISHES = {
    "asked": (f"nonce={NONCE}\nattempt=2\nat=1700000000\n", 0, Stopping(2, 1700000000.0)),
    "never asked": ("", 2, None),
    "of another run": ("nonce=" + "f" * 32 + "\nattempt=2\nat=1\n", 0, "missing: the wish to stop carries another run's nonce"),
    "no attempt": (f"nonce={NONCE}\nat=1\n", 0, "missing: the wish to stop is malformed"),
    "attempt 0": (f"nonce={NONCE}\nattempt=0\nat=1\n", 0, "missing: the wish to stop is malformed"),
    "no time": (f"nonce={NONCE}\nattempt=1\nat=soon\n", 0, "missing: the wish to stop is malformed"),
    "a link": ("", 3, "missing: the wish to stop is not a plain file"),
}  # fmt: skip


@pytest.mark.parametrize("case", WISHES)
def test_wishes_to_stop(case):
    text, status, want = WISHES[case]
    assert told(read_stopping(section(text, status), NONCE, 1.0)) == want


def test_a_marker_that_is_a_link_is_refused():
    reading = read_markers(section("1"), [section("01-prepare\n", 3)], NONCE, 1.0)
    assert told(reading) == "missing: the marker of 01-prepare is not a plain file"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("chain=held\nstage=free", Locks(chain_held=True, stage_held=False)),
        (
            "chain=free\nstage=unknown",
            "missing: the locks could not be asked (no flock, python3 or perl, or not plain files)",
        ),
        ("chain=moved\nstage=unknown", "missing: the locks changed hands while we looked"),
        ("", "missing: the locks could not be asked (no flock, python3 or perl, or not plain files)"),
        (
            "chain=held",
            "missing: the locks could not be asked (no flock, python3 or perl, or not plain files)",
        ),
    ],
)
def test_locks(text, want):
    assert told(read_locks(section(text), 1.0)) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", ()),
        (
            "12 lock sh\n13 tag my prog\n14 mark \n",
            (Alive(12, "lock", "sh"), Alive(13, "tag", "my prog"), Alive(14, "mark", "")),
        ),
        ("12 guess sh\n", "missing: the processes: a line is malformed"),
        ("x tag sh\n", "missing: the processes: a line is malformed"),
        ("0 tag sh\n", "missing: the processes: a line is malformed"),
    ],
)
def test_alive(text, want):
    assert told(read_alive(section(text), 1.0)) == want


def test_a_search_that_failed_is_not_nothing():
    assert (
        told(read_alive(section("", 1), 1.0))
        == "missing: the search for processes could not be read (status 1)"
    )


LOGS = {
    "new bytes": (b"1:2 30 1800000000 20\nEpoch 3/9\n", (20, b"Epoch 3/9\n")),
    "empty": (b"1:2 0 1800000000 0\n", (0, b"")),
    "no first line": (b"Epoch 3/9", "missing: run.log: its first line is malformed"),
    "more than there is": (
        b"1:2 3 1800000000 0\nEpoch",
        "missing: run.log: more bytes came than the file holds",
    ),
    "starts behind its end": (
        b"1:2 3 1800000000 9\n",
        "missing: run.log: more bytes came than the file holds",
    ),
    "huge figures": (b"1:2 " + b"9" * 30 + b" 1 0\n", "missing: run.log: its first line is malformed"),
}


@pytest.mark.parametrize("case", LOGS)
def test_logs(case):
    content, want = LOGS[case]
    reading = read_log(section(content), 1.0)
    assert (
        (reading.value.start, reading.value.data) if isinstance(reading, Known) else told(reading)
    ) == want


def test_artifacts_of_several_globs_are_one_list_newest_first():
    found = read_artifacts([section("30 1 b.pt\n10 1 a b.pt\n"), section("20 5 c.pt\n30 1 b.pt\n")], 2, 1.0)
    assert [item.path for item in found.value] == ["b.pt", "c.pt", "a b.pt"]
    assert told(read_artifacts([section("")], 1, 1.0)) == ()
    assert (
        told(read_artifacts([section("")], 2, 1.0))
        == "missing: the artifacts: not every glob is in the answer"
    )
    assert (
        told(read_artifacts([section("", 2)], 1, 1.0)) == "missing: the folder of the artifacts is not there"
    )
    assert told(read_artifacts([section("x y z\n")], 1, 1.0)) == "missing: the artifacts: a line is malformed"


def test_the_folder_is_there_or_not_or_not_known():
    assert [told(read_exists(section(text), 1.0)) for text in ("yes", "no")] == [True, False]
    assert told(read_exists(section("perhaps"), 1.0)).startswith("missing: ")


def test_the_budget_is_a_number_or_not_known():
    assert [told(read_budget(section(text), 1.0)) for text in ("3", "12\n")] == [3, 12]
    for text in ("-", "", "0", "-1", "3 4", "three"):
        assert told(read_budget(section(text), 1.0)).startswith("missing: the budget"), text


READERS = (
    lambda found: read_uptime(found, 1.0),
    lambda found: read_boot_id(found, 1.0),
    lambda found: read_box_id(found, 1.0),
    lambda found: read_machine_id(found, 1.0),
    lambda found: read_memory(found, 1.0),
    lambda found: read_gpus(found, 1.0),
    lambda found: read_disks([found], [found], 1.0),
    lambda found: read_exists(found, 1.0),
    lambda found: read_attempt(found, NONCE, 1.0),
    lambda found: read_end(found, NONCE, 1.0),
    lambda found: read_stopping(found, NONCE, 1.0),
    lambda found: read_budget(found, 1.0),
    lambda found: read_markers(found, [found], NONCE, 1.0),
    lambda found: read_locks(found, 1.0),
    lambda found: read_alive(found, 1.0),
    lambda found: read_log(found, 1.0),
    lambda found: read_artifacts([found], 1, 1.0),
)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(st.sampled_from("0123456789 -:\n=vmaxyesno/%,abcdef\0\x1b٣"), max_size=200).map(str.encode),
    ),
    st.sampled_from([0, 0, 0, 1, 2, 3, 27, 124, 127]),
)
def test_no_section_is_too_odd_for_any_reader(content, status):  # S28
    for read in READERS:
        assert isinstance(read(section(content, status)), Known | Missing)
