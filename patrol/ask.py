"""What one visit asks a box: the request lines of `templates/box/probe.sh`. Pure."""

from collections.abc import Mapping, Sequence

from fleet.model.run import Run
from patrol.history import History

LOG_BYTES_RUN = 16 * 1024
LOG_BYTES_ALL = 160 * 1024


def request_pairs(
    runs: Sequence[Run],
    histories: Mapping[str, History],
    *,
    gpu: bool,
    wait: tuple[str, int] | None,
) -> tuple[tuple[str, str], ...]:
    """The lines for all `runs` of one box; `fleet.text.frame.request` puts the token before them.

    `wait` is (run id, seconds): the box first waits so long for the end of that run's chain. The logs
    share 160 KiB, at most 16 KiB each, so that the whole answer stays below what a host takes.
    """
    pairs = [("state", (runs[0].box.state_dir if runs else None) or "-"), ("gpu", "1" if gpu else "0")]
    if wait:
        pairs.append(("wait", f"{wait[0]} {wait[1]}"))
    pairs += [("disk", path) for path in dict.fromkeys(run.spec.cwd for run in runs) if path]
    most = min(LOG_BYTES_RUN, LOG_BYTES_ALL // max(1, len(runs)))
    for run in runs:
        seen = histories.get(run.run_id, History())
        pairs.append(("run", f"{run.run_id} {seen.log_id or '-'} {seen.log_offset} {most}"))
        pairs += [("artifact", f"{run.run_id} {glob}") for glob in run.spec.artifacts]
    return tuple(pairs)
