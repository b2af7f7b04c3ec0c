"""One rank of two, under real torch: it does the jobs that are laid into its folder, one after the other.

`job-<k>` holds a name of the table at the end; `done-<k>-<rank>` is what came of it, as JSON.
"""

import datetime as dt
import itertools
import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from onbox import RuntimeController, ipc_range

HERE = Path(sys.argv[1])
RANK = int(os.environ["RANK"])
PATIENCE = dt.timedelta(seconds=120)


def joined():
    """Nothing comes back: both ranks meet over a store whose port the first one picked."""
    port = HERE / "port"
    if RANK == 0:
        store = dist.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False, timeout=PATIENCE)
        (HERE / "port.new").write_text(str(store.port))
        (HERE / "port.new").rename(port)
    else:
        awaited(port)
        store = dist.TCPStore("127.0.0.1", int(port.read_text()), 2, is_master=False, timeout=PATIENCE)
    dist.init_process_group("gloo", store=store, rank=RANK, world_size=2, timeout=PATIENCE)


def awaited(path):
    while not path.exists():
        time.sleep(0.005)


def met(value=0.0):
    """The highest value of both ranks; neither comes further alone."""
    tensor = torch.tensor(value)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


def leave():
    """The last index before the loop was left from outside."""
    last = None
    for step in ipc_range(itertools.count(), label="ranks"):
        step.track(met=met(float(step.index)))
        last = step.index
        time.sleep(0.001 * (1 + RANK))
    return last


def control(every=(1, 1), *, counted=True):
    """What was applied here: [argument, step]; `every`: at each how many steps a rank polls."""
    applied = []
    queue = RuntimeController(HERE / "queue", ddp=True)
    at = 0

    def apply(_ctx, factor, *, why=None):
        applied.append([factor, at])

    def check(factor):
        if not isinstance(factor, (int, float)) or factor <= 0:
            raise ValueError("the factor must be above 0")
        return factor

    queue.register("lr.factor", apply, check)
    (HERE / f"polls-{RANK}").touch()
    stop = False
    while not stop:
        stop = bool(met(float((HERE / "stop").exists())))
        if at % every[RANK] == 0:
            queue.poll_and_apply(ctx={}, every_s=0.0, step=at if counted else None)
        at += 1
        time.sleep(0.002)
    return {"applied": applied, "faults": queue.faults, "fault": queue.last_fault}


JOBS = {
    "leave": leave,
    "control": control,
    "control, one polls half as often": lambda: control((1, 2)),
    "control, the first polls half as often": lambda: control((2, 1)),
    "control, polls are counted": lambda: control((1, 2), counted=False),
}


def main():
    torch.set_num_threads(1)
    joined()
    (HERE / f"ready-{RANK}").touch()
    for number in itertools.count():
        job = HERE / f"job-{number}"
        awaited(job)
        done = json.dumps(JOBS[job.read_text()]())
        met()  # `stop` is seen by both before it may be taken away
        new = HERE / f"new-{RANK}"
        new.write_text(done)
        new.rename(HERE / f"done-{number}-{RANK}")


if __name__ == "__main__":
    main()
