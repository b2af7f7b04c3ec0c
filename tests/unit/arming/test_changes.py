import pytest

from fleet.arming.chain import digest_of
from fleet.arming.changes import job_changes
from fleet.model.spec import RunSpec, Stage

PREP, TRAIN = Stage("prep", "make data"), Stage("train", "python train.py --epochs 3")


def job(*stages, **fields):
    return RunSpec("train", stages or (PREP, TRAIN), **fields)


CASES = [
    (job(), job(), []),
    (job(), job(budget=9, artifacts=("*.pt",), code=("*.py",)), []),
    (job(), job(PREP, Stage("train", "python train.py --epochs 9")),
     ["  stage train", "    - python train.py --epochs 3", "    + python train.py --epochs 9"]),
    (job(), job(PREP, Stage("train", TRAIN.command, leftovers="end")),
     ["  stage train", "    - leftovers = fail", "    + leftovers = end"]),
    (job(), job(PREP, Stage("train", TRAIN.command, strict=False)),
     ["  stage train", "    - strict = true", "    + strict = false"]),
    (job(), job(cwd="~/proj"), ["  folder", "    - ~", "    + ~/proj"]),
    (job(), job(TRAIN), ["  stage prep", "    - make data", "    - leftovers = fail", "    - strict = true"]),
    (job(TRAIN), job(), ["  stage prep", "    + make data", "    + leftovers = fail", "    + strict = true"]),
    (job(), job(TRAIN, PREP), ["  order of the stages", "    - prep && train", "    + train && prep"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "lines"), CASES)
def test_what_is_different_is_said_line_by_line(old, new, lines):
    assert list(job_changes(old, new)) == lines
    assert bool(lines) == (digest_of(old) != digest_of(new))


def test_only_the_lines_that_differ_of_a_long_command_are_shown():
    long = "\n".join(f"step {n}" for n in range(50))
    found = job_changes(
        job(Stage("train", long)), job(Stage("train", long.replace("step 7\n", "step seven\n")))
    )
    assert found == ("  stage train", "    - step 7", "    + step seven")


def test_a_wholly_other_command_is_cut():
    old, new = ("\n".join(f"{word} {n}" for n in range(80)) for word in ("old", "new"))
    found = job_changes(job(Stage("train", old)), job(Stage("train", new)))
    assert len(found) == 25 and found[-1].startswith("and ") and found[-1].endswith(" more lines")
