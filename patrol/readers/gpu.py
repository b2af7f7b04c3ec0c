"""What the GPUs say of themselves. Pure."""

import csv

from fleet.model.probe import Gpu
from fleet.model.reading import Known, Missing, Reading
from fleet.text.frame import Section
from patrol.readers.section import figure, text_of

_MIB = 1024 * 1024
_MAX_DEVICES = 64


def read_gpus(section: Section | None, at: float) -> Reading[tuple[Gpu, ...]]:
    """Each device, in nvidia-smi's order. Missing as a whole when one does not tell its figures (`[N/A]`).

    Percent and MiB as printed; memory is turned into bytes. Source: `nvidia-smi --query-gpu=index,name,
    utilization.gpu,memory.used,memory.total --format=csv,noheader,nounits`.
    """
    text = text_of(section, "nvidia-smi")
    if isinstance(text, Missing):
        return text
    lines = [line for line in text.split("\n") if line.strip()][: _MAX_DEVICES + 1]
    if not lines or len(lines) > _MAX_DEVICES:
        return Missing("nvidia-smi names no device" if not lines else "nvidia-smi names too many devices")
    try:
        rows = list(csv.reader(lines, skipinitialspace=True, quoting=csv.QUOTE_NONE))
    except csv.Error:
        return Missing("nvidia-smi's lines are no table")
    gpus = []
    for number, words in enumerate(rows):
        gpu = _device(words)
        if gpu is None:
            return Missing(f"nvidia-smi does not tell the figures of device {number}")
        gpus.append(gpu)
    return Known(tuple(gpus), at, "nvidia-smi")


def _device(words: list[str]) -> Gpu | None:
    if len(words) < 5:
        return None
    # A name may hold a comma; the four figures around it may not.
    index, name, figures = words[0], ", ".join(words[1:-3]), words[-3:]
    numbers = [figure(text.strip()) for text in (index, *figures)]
    if any(number is None for number in numbers):
        return None
    at, util, used, total = (number or 0 for number in numbers)
    return Gpu(at, name[:100], float(util), used * _MIB, total * _MIB) if util <= 100 else None
