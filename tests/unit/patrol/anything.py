"""Strategies for whatever a box may show: every reading right, odd or missing, in any mixture."""

from hypothesis import strategies as st
from unit.patrol.build import (
    BOOT,
    BOX_ID,
    BOX_NOW,
    CHAIN_PID,
    MISSING,
    alive,
    artifact,
    attempt,
    away,
    box,
    disk,
    end,
    facts,
    known,
    marker,
    probe,
)

from fleet.model.probe import Cause, Gpu, Locks, LogSlice, Memory
from fleet.model.usage import Usage, UsageEnd

readings = lambda values: st.one_of(st.builds(known, values), st.just(MISSING))  # noqa: E731 - a strategy of strategies
ages = st.sampled_from([0.0, 1.0, 59.0, 61.0, 600.0, 1801.0, 9000.0, -500.0, 1e9])
evil = st.text(max_size=30)
attempts = st.builds(
    lambda n, s, boot: attempt(n, ago_s=s, boot=boot),
    st.integers(1, 4),
    ages,
    st.sampled_from([BOOT, "ff-ff"]),
)
ends = st.builds(
    lambda state, n, s, why, rc, signal, stage: end(state, number=n, ago_s=s, why=why, rc=rc, signal=signal, stage=stage),
    st.sampled_from(["done", "failed", "stopped", "odd"]), st.integers(1, 4), ages,
    st.sampled_from(["-", "exit", "signal", "leftovers", "disk", "odd"]), st.sampled_from([None, 0, 3, 137]),
    st.sampled_from([None, 9, 64]), st.sampled_from([None, "01-prepare", "09-x", "odd"]),
)  # fmt: skip
counts = st.none() | st.sampled_from([0, 1, 10**9, 31 * 10**9, 32 * 10**9])
usages = st.builds(
    Usage, st.sampled_from(["01-prepare", "02-train", "09-x"]), st.integers(1, 4), ages.map(lambda s: BOX_NOW - s),
    memory_bytes=counts, cgroup_bytes=counts, limit_bytes=counts, peak_bytes=counts, peak_cgroup_bytes=counts,
    peak_at=st.none() | ages.map(lambda s: BOX_NOW - s), rising_since=st.none() | ages.map(lambda s: BOX_NOW - s),
    end=st.none() | st.builds(
        UsageEnd, st.sampled_from([None, 0, 1]), st.none() | st.just(9), st.sampled_from([None, "oom", "user", "unknown"]),
        oom_scope=st.sampled_from([None, "cgroup", "machine"]),
    ),
)  # fmt: skip
run_facts = st.builds(
    facts,
    exists=readings(st.booleans()),
    attempt=readings(st.one_of(st.none(), attempts)),
    end=readings(st.one_of(st.none(), ends)),
    markers=readings(st.lists(st.builds(marker, ago_s=ages), max_size=2).map(tuple)),
    locks=readings(st.builds(Locks, st.booleans(), st.booleans())),
    alive=readings(
        st.sets(st.sampled_from([CHAIN_PID, 4200, 4201]), max_size=3).map(lambda pids: alive(*pids).value)
    ),
    log=readings(
        st.builds(
            lambda text, s: LogSlice("1:2", len(text), BOX_NOW - s, 0, text), st.binary(max_size=60), ages
        )
    ),
    artifacts=readings(
        st.lists(st.builds(lambda s, path: artifact(ago_s=s, path=path), ages, evil), max_size=2).map(tuple)
    ),
    usage=readings(st.none() | usages),
)
boxes = st.builds(
    box,
    boot_id=readings(st.just(BOOT)),
    box_id=readings(st.sampled_from([BOX_ID, "c" * 32])),
    uptime_s=readings(st.just(100.0)),
    disks=readings(
        st.lists(
            st.builds(disk, st.sampled_from([5.0, 99.0]), st.sampled_from([None, 5.0, 99.0]), evil),
            max_size=2,
        ).map(tuple)
    ),
    memory=readings(
        st.builds(
            Memory, st.integers(0, 10**12), st.sampled_from([None, 0, 10**9]), st.sampled_from([None, 0, 3])
        )
    ),
    gpus=readings(
        st.lists(
            st.builds(Gpu, st.integers(0, 9), evil, st.just(3.0), st.just(1), st.just(2)), max_size=2
        ).map(tuple)
    ),
)
probes = st.one_of(
    st.builds(probe, run_facts, boxes),
    st.builds(lambda cause, text: away(cause, known=text, offered=text), st.sampled_from(list(Cause)), evil),
)
