"""What a watched stage used: read within bounds, believed of its own stage and attempt only, said in figures."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from unit.patrol.build import (
    BOX_NOW,
    GONE,
    MISSING,
    NOW,
    attempt,
    box,
    case,
    end,
    facts,
    folded,
    known,
    probe,
    run,
)

from fleet.model.probe import Memory
from fleet.model.reading import Known, Missing
from fleet.model.usage import Usage, UsageEnd
from fleet.text.frame import Section
from patrol.decide import decide
from patrol.history import History
from patrol.readers.usage import read_usage
from patrol.report import document, iso, lines
from patrol.says import Words
from patrol.usage import document as usage_document

GB = 10**9
KIB = 1024
MS = int(BOX_NOW * 1000)
SUMMARY = {
    "total_time_secs": 60.0, "sample_count": 60, "peak_mem_rss_kb": 2000, "peak_mem_rss_at_ms": MS - 9000, "peak_cgroup_used_kb": 2100,
    "rising_since_ms": MS - 60_000, "avg_cpu_usage": 180.5, "peak_gpu_mem_bytes": 5, "exit_code": None, "killed_by": None,
}  # fmt: skip
EXIT = {
    "kind": "exit", "ts_ms": MS - 4000, "exit_code": None, "signal": 9, "core_dumped": False, "killed_by": "oom",
    "oom": {"before": 3, "after": 4, "scope": "cgroup"}, "wall_s": 61.5, "left_running": [{"pid": 7, "command": "x"}], "monitor_errors": ["odd"],
}  # fmt: skip


def file(**changed):
    said = {
        "format": 1, "stage": "02-train", "attempt": 1, "at_ms": MS - 4000, "pid": 71, "cpu_usage": 99.5, "mem_rss_kb": 1500, "process_count": 3,
        "cgroup_used_kb": 1400, "cgroup_limit_kb": 4000, "gpu_busy": None, "summary": SUMMARY, "end": None,
    }  # fmt: skip
    return {**said, **changed}


def read(said, *, status=0, newest=2):
    content = said if isinstance(said, bytes) else json.dumps(said, separators=(",", ":")).encode()
    number = newest if isinstance(newest, Missing) else known(newest and attempt(newest))
    return read_usage(Section("usage", None, status, content), run(), number, BOX_NOW)


def test_a_file_is_read_with_its_units():
    assert read(file(end=EXIT)).value == Usage(
        "02-train", 1, BOX_NOW - 4, 99.5, 1500 * KIB, 3, 1400 * KIB, 4000 * KIB, None, 2000 * KIB, BOX_NOW - 9, 2100 * KIB, 5, BOX_NOW - 60, 180.5,
        UsageEnd(None, 9, "oom", 61.5, "cgroup", 1),
    )  # fmt: skip
    assert read(file()).value.end is None


def test_a_run_without_the_folder_or_without_a_file_yet_has_no_usage():
    assert read_usage(None, run(), known(attempt()), BOX_NOW) == Known(None, BOX_NOW, "usage")
    assert read(b"", status=2) == Known(None, BOX_NOW, "usage")


def test_what_could_not_be_measured_is_none_and_a_moment_to_come_is_now():
    bare = {"format": 1, "stage": "02-train", "attempt": 2, "at_ms": MS + 10**9}
    found = read(bare).value
    assert found == Usage("02-train", 2, BOX_NOW)
    assert read(file(cgroup_limit_kb=0)).value.limit_bytes is None
    assert read(file(extra={"a": [1]}, mem_rss_kb=None)).value.held_bytes == 1400 * KIB


REJECTED = {
    "another format": file(format=2),
    "a stage that is none of the run's": file(stage="03-train"),
    "a stage of another number": file(stage="01-train"),
    "a path": file(stage="../02-train"),
    "a stage that is no text": file(stage=2),
    "an attempt that has not been": file(attempt=3),
    "no attempt": file(attempt=0),
    "an attempt before all": file(attempt=-1),
    "an attempt as a float": file(attempt=1.5),
    "a text for a figure": file(mem_rss_kb="1500"),
    "a bool for a figure": file(mem_rss_kb=True),
    "less than nothing": file(mem_rss_kb=-1),
    "more than a machine has": file(mem_rss_kb=1 << 51),
    "a figure without end": file(mem_rss_kb=10**30),
    "no finite number": b'{"format":1,"stage":"02-train","attempt":1,"at_ms":5,"cpu_usage":1e999}',
    "not a number": b'{"format":1,"stage":"02-train","attempt":1,"at_ms":5,"cpu_usage":NaN}',
    "no moment": file(at_ms=None),
    "a moment before 1970": file(at_ms=-1),
    "no object": b"[]",
    "nothing": b"",
    "a cut file": json.dumps(file()).encode()[:200],
    "a key twice": b'{"format":1,"format":1,"stage":"02-train","attempt":1,"at_ms":5}',
    "too long": json.dumps(file(x="x" * 4096)).encode(),
    "too deep": json.dumps(file(x=json.loads("[" * 40 + "]" * 40))).encode(),
    "a summary that is none": file(summary=[]),
    "a peak that is none": file(summary={"peak_mem_rss_kb": -5}),
    "an end that is none": file(end="oom"),
    "an end without its status": file(end={"killed_by": "oom"}),
    "exit and signal at once": file(end={**EXIT, "exit_code": 1}),
    "a signal that is none": file(end={**EXIT, "signal": 0}),
    "a word that we do not know": file(end={**EXIT, "killed_by": "next: babysit stop"}),
    "memory without its counter": file(end={**EXIT, "oom": None}),
    "a counter that stands": file(end={**EXIT, "oom": {"before": 4, "after": 4, "scope": "cgroup"}}),
    "another scope": file(end={**EXIT, "oom": {"before": 3, "after": 4, "scope": "galaxy"}}),
}


@pytest.mark.parametrize("why", REJECTED)
def test_what_no_watcher_writes_is_missing(why):  # S38
    found = read(REJECTED[why])
    assert isinstance(found, Missing) and "stop" not in found.why, found
    assert found.why.startswith("what its stage used: its file ")


def test_a_peak_that_nobody_saw_is_none():
    assert read(file(summary={**SUMMARY, "peak_mem_rss_kb": 0})).value.peak_bytes is None


def test_a_link_and_an_answer_without_room_are_missing():
    assert read(b"", status=3) == Missing("what its stage used is not a plain file")
    assert isinstance(read(b"", status=27), Missing)


def test_usage_before_any_attempt_is_not_believed_and_an_unread_attempt_proves_nothing():
    assert isinstance(read(file(), newest=None), Missing)
    assert read(file(attempt=9), newest=MISSING).value.attempt == 9


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200),
    st.dictionaries(
        st.sampled_from(sorted(file())), st.none() | st.integers() | st.floats() | st.text(max_size=5)
    ),
)
def test_no_bytes_of_a_box_break_the_reader(content, changed):  # S38
    read(content)
    found = read(json.dumps(file(**changed)).encode())
    assert isinstance(found, Missing) or found.value.attempt <= 2


# -- what is said of it


def usage(stage="02-train", number=1, *, ago_s=4.0, ended=None, **changed):
    values = {
        "cpu_pct": 340.0, "memory_bytes": 12 * GB, "processes": 5, "cgroup_bytes": 14 * GB, "limit_bytes": 32 * GB,
        "peak_bytes": 12 * GB, "peak_at": BOX_NOW - ago_s, "mean_cpu_pct": 310.0,
    }  # fmt: skip
    return Usage(stage, number, BOX_NOW - ago_s, **{**values, **changed}, end=ended)


def oomed(
    stage="02-train", number=1, *, exit_code=None, signal=9, scope="cgroup", killed_by="oom", **changed
):
    values = {
        "peak_bytes": 31_800_000_000, "peak_at": BOX_NOW - 310, "rising_since": BOX_NOW - 310 - 2400, "ago_s": 305.0, **changed,
    }  # fmt: skip
    return usage(stage, number, ended=UsageEnd(exit_code, signal, killed_by, 3300.0, scope), **values)


def failed(used, *, why="signal", rc=137, signal=9, stage="02-train", **more):
    return probe(
        facts(
            **GONE, end=known(end("failed", stage=stage, rc=rc, signal=signal, why=why)), usage=known(used)
        ),
        **more,
    )


def judged(seen, history=None, of_run=None):
    of_run = of_run or run()
    return decide(of_run, seen, folded(of_run, seen, history), NOW)


def test_a_kill_for_memory_is_said_with_its_figures():  # R43
    verdict = judged(failed(oomed()))
    assert verdict.row == "R-OOM-1" and (verdict.exit_code, verdict.severity.value) == (20, "page")
    assert verdict.summary.startswith(
        "stage train was killed by the OOM killer at 31.8 of 32 GB, rising for 40 min"
    )
    assert verdict.next[0] == "babysit usage gpu1 train"
    assert all(len(line) <= 80 for line in lines([verdict], NOW))
    said = " | ".join(seen.says for seen in verdict.evidence if seen.source == "usage")
    assert "peak 31.8 of 32 GB" in said and "with signal 9" in said and "the cgroup's count of kills" in said


SAID = {
    "one of its processes": (oomed(exit_code=1, signal=None), "a process of stage train was killed by the OOM killer at 31.8 of 32 GB, rising"),
    "what all of the cgroup held counts": (oomed(peak_bytes=3 * GB, peak_cgroup_bytes=33 * GB), "at 32 of 32 GB, rising"),
    "megabytes of gigabytes": (oomed(peak_bytes=900 * 10**6, limit_bytes=GB), "at 900 MB of 1 GB, rising"),
    "no rise": (oomed(rising_since=None), "at 31.8 of 32 GB · "),
    "no figures": (oomed(peak_bytes=None, rising_since=None), "was killed by the OOM killer · "),
    "the machine's": (oomed(scope="machine", limit_bytes=None), "was killed by the machine's OOM killer at 31.8 of 64 GB, rising"),
    # The machine ran out, not the cgroup: its limit was not what was met.
    "the machine's below a limit": (oomed(scope="machine"), "was killed by the machine's OOM killer at 31.8 GB, rising"),
}  # fmt: skip


@pytest.mark.parametrize("what", SAID)
def test_the_sentence_of_a_kill_says_what_is_known(what):
    used, want = SAID[what]
    on = box(memory=known(Memory(60 * GB, 64 * GB, 0)))
    assert want in judged(failed(used, box_facts=on)).summary


NOT_FOR_MEMORY = {
    "another attempt": (failed(oomed(number=2), rc=137), "R-FAIL-2"),
    "another stage": (failed(oomed(stage="01-prepare")), "R-FAIL-2"),
    "no end of its own": (failed(usage()), "R-FAIL-2"),
    "another kill": (failed(oomed(killed_by="unknown", scope=None)), "R-FAIL-2"),
    "its user": (failed(oomed(killed_by="user", scope=None), why="exit", signal=None), "R-FAIL-1"),
    "a full disk": (failed(oomed(), why="disk", signal=None, rc=None), "R-FAIL-4"),
    "it could not be read": (probe(facts(**GONE, end=known(end("failed", stage="02-train", rc=137, signal=9, why="signal")), usage=MISSING)), "R-FAIL-2"),
    "it was stopped": (probe(facts(**GONE, end=known(end("stopped", stage="02-train", why="stopped")), usage=known(oomed()))), "R-STOP-1"),
    "it finished": (probe(facts(**GONE, end=known(end("done")), usage=known(oomed()))), "R-FINISH-1"),
    "it runs again": (probe(facts(attempt=known(attempt(2)), usage=known(oomed()))), "R-RUN-1"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_FOR_MEMORY)
def test_a_kill_of_something_else_is_not_this_ones(what):
    seen, row = NOT_FOR_MEMORY[what]
    verdict = judged(seen)
    assert verdict.row == row and "OOM killer" not in verdict.summary


def rising(used_gb=30.0, *, since_s=2400.0, **changed):
    used = int(used_gb * GB)
    values = {
        "memory_bytes": used,
        "cgroup_bytes": used + GB,
        "peak_bytes": used,
        "rising_since": BOX_NOW - since_s,
        **changed,
    }
    return usage(**values)


def running(used, **more):
    return probe(facts(usage=known(used)), **more)


def test_memory_that_rises_towards_its_limit_is_at_risk_before_it_is_killed():  # R43
    verdict = judged(running(rising()))
    assert (verdict.row, verdict.exit_code) == ("R-MEM-1", 10)
    assert verdict.summary.startswith("memory 30 of 32 GB, rising for 39 min · epoch 3/9")
    assert verdict.next[0] == "babysit usage gpu1 train"


AS_EVER = {
    "far from it": rising(28.0),
    "high, but level": rising(rising_since=None),
    "risen, and given back since": rising(29.0, peak_bytes=31 * GB),
    "file cache, which is given up": rising(3.0, cgroup_bytes=32 * GB),
    "shared pages, counted for each": rising(60.0, cgroup_bytes=20 * GB),
    "an hour old": rising(ago_s=3600.0),
    "over": rising(ended=UsageEnd(0, None, None)),
    "no figure": rising(memory_bytes=None),
    "no limit": rising(limit_bytes=None),
    "of an attempt before": rising(number=0),
}


@pytest.mark.parametrize("what", AS_EVER)
def test_what_is_not_about_to_be_killed_runs(what):
    assert judged(running(AS_EVER[what])).row == "R-RUN-1"


def test_where_only_the_machine_limits_it_all_that_the_machine_uses_counts():
    full = box(memory=known(Memory(60 * GB, 64 * GB, 0)))
    assert judged(running(rising(limit_bytes=None), box_facts=full)).summary.startswith(
        "memory 60 of 64 GB, rising"
    )
    assert judged(running(rising(limit_bytes=None), box_facts=box(memory=MISSING))).row == "R-RUN-1"


def test_a_limit_beyond_what_the_machine_has_is_none():
    def said(vantage):
        full = box(memory=Known(Memory(31 * GB, 32 * GB, 0), BOX_NOW, vantage))
        return judged(running(rising(limit_bytes=64 * GB), box_facts=full))

    assert said("/proc/meminfo").summary.startswith("memory 31 of 32 GB, rising")
    assert said("cgroup").row == "R-RUN-1"  # that of who looks, which may be another


def test_the_samples_of_several_looks_show_a_pace_and_when_it_is_full():
    first = running(rising(26.0, ago_s=604.0))
    history = folded(run(), first)
    assert history.memory == ((BOX_NOW - 604.0, 26 * GB),) and history.memory_of == "02-train"
    verdict = judged(running(rising(30.0)), history)
    # 4 GB in 10 minutes, 2 GB to go.
    assert "full in about 5 min at this pace" in verdict.summary
    assert "full in" not in judged(running(rising(30.0)), History()).summary


def test_looks_are_kept_of_one_stage_and_attempt_the_newest_twenty():
    history = History(attempt=1)
    for number in range(30):
        history = folded(run(), running(usage(ago_s=300.0 - 10 * number, memory_bytes=number)), history)
    assert [held for _, held in history.memory] == list(range(10, 30))
    same = folded(run(), running(usage(ago_s=10.0, memory_bytes=5)), history)
    assert same.memory == history.memory  # the same file again
    other = folded(run(), running(usage("01-prepare", ago_s=1.0, memory_bytes=5)), history)
    assert [held for _, held in other.memory] == [5]
    again = folded(run(), probe(facts(attempt=known(attempt(2)), usage=known(oomed()))), history)
    assert (again.memory, again.memory_of) == ((), None)


def test_looks_move_with_the_clock_of_the_box():
    seen = folded(run(), running(usage(memory_bytes=5)))
    history = replace(seen, skew_s=-3595.0, booted_at=seen.booted_at - 3600.0)
    assert folded(run(), running(usage(memory_bytes=5)), history).memory[0] == (BOX_NOW - 4.0 + 3600.0, 5)


def test_figures_of_a_run_are_in_its_line_and_its_peak_in_the_report():
    assert "memory 12 of 32 GB" in judged(running(usage())).summary
    assert "memory" not in judged(running(usage(ended=UsageEnd(0, None, None)))).summary
    done = judged(
        probe(
            facts(
                **GONE, end=known(end("done")), usage=known(oomed(killed_by=None, exit_code=0, signal=None))
            )
        )
    )
    assert "peak 31.8 of 32 GB in train" in done.summary
    one = replace(run(), spec=replace(run().spec, stages=run().spec.stages[1:]))
    used = oomed("01-train", killed_by=None, exit_code=0, signal=None, limit_bytes=None)
    assert (
        "peak 31.8 GB ·"
        in judged(probe(facts(**GONE, end=known(end("done")), usage=known(used))), of_run=one).summary
    )
    other = judged(failed(oomed(killed_by=None, exit_code=1, signal=None), why="exit", signal=None, rc=1))
    assert other.row == "R-FAIL-1" and "peak 31.8 of 32 GB" in other.summary


@pytest.mark.parametrize(("said", "count"), [({}, 1), ({"left_running_count": 40}, 40)])
def test_what_ran_on_is_counted_whole_though_a_few_are_named(said, count):
    assert read(file(end={**EXIT, **said})).value.end.left_running == count


def test_programs_get_the_figures_and_no_word_of_the_box():
    verdict = judged(failed(oomed()))
    said = document([verdict], at=NOW, cursor=None, exit_code=20)["runs"][0]["usage"]
    assert (said["stage"], said["attempt"], said["peak_bytes"], said["limit_bytes"]) == (
        "02-train",
        1,
        31_800_000_000,
        32 * GB,
    )
    assert said["end"] == {
        "exit_code": None,
        "signal": 9,
        "killed_by": "oom",
        "oom_scope": "cgroup",
        "wall_s": 3300.0,
        "left_running": 0,
    }
    assert said["rising_since"] == iso(BOX_NOW - 2710)
    assert usage_document(None, iso) is None
    # One key a field, and no field left out.
    fields = {
        field for field in Usage.__struct_fields__ if field not in ("at", "peak_at", "rising_since", "end")
    }
    assert fields < set(said) and set(said["end"]) == set(UsageEnd.__struct_fields__)


def test_a_case_without_usage_says_nothing_of_it():
    words = Words(case())
    assert (words.memory, words.peak, words.oom_killed, words.filling, words.full_in) == ("", "", "", "", "")
    unread = judged(probe(facts(usage=MISSING)))
    assert [seen.says for seen in unread.evidence if seen.source == "usage"] == [
        "not read: it could not be read"
    ]
    assert not [seen for seen in judged(probe(facts(usage=known(None)))).evidence if seen.source == "usage"]
