"""A break under the real torchrun: what it makes of the status, and what lies there for the patrol to judge by."""

import json
import subprocess
import time

import pytest
from msgspec.structs import replace
from peers import OURS, PYTHON, WITHIN_S
from unit.patrol.build import GONE, attempt, case, end, facts, known, probe, run
from waiting import wait_until

from fleet.text.frame import Section
from patrol.decide import first_match
from patrol.readers.broken import read_broken

pytestmark = pytest.mark.timeout(600)
TAG = run().tag
SCRIPT = """
import time
from onbox import ipc_range
for step in ipc_range(1_000_000, label="ranks"):
    time.sleep(0.01)
"""


def test_a_break_of_its_ranks_ends_torchrun_with_1_and_is_a_stop_by_their_records(folder):  # R34
    (folder.home / "train.py").write_text(SCRIPT)
    env = {
        **folder.command(OURS)[1],
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "BABYSIT_TAG": f"{TAG}/02-train",
    }
    words = [PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
    began = time.time()
    with (folder.home / "out").open("wb") as out:
        launcher = subprocess.Popen(words, cwd=folder.home, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        cards = folder.ipc / "onbox"

        def both():
            assert launcher.poll() is None, (folder.home / "out").read_text()
            return len(list(cards.glob("[0-9]*.json"))) == 2

        wait_until(both, 120, "a card of each rank")

        def followed():  # one rank that is held up for long keeps both: then it is said once more
            said = folder.asked(OURS, "break", "all", "--wait", "60", within_s=WITHIN_S * 2)
            return said.returncode in (0, 23)  # the launcher may end the slower rank at once

        wait_until(followed, 120, "one iteration for both ranks")
        assert launcher.wait(120) == 1
    finally:
        launcher.terminate()
        launcher.wait(60)
    ended = time.time()
    records = [path.read_text() for path in cards.glob("ended/*.json")]
    assert {(record["ended"], record["exit_code"]) for record in map(json.loads, records)} == {("broken", 88)}
    content = "".join(f"{text[:3072]}\n{text[-1024:]}\n" for text in records).encode()
    found = read_broken(Section("broken", TAG, 0, content), TAG, ended)
    # As the chain writes them: in whole seconds.
    was = replace(attempt(), started_at=float(int(began)))
    is_over = replace(end("failed", stage="02-train", rc=1, why="exit"), ended_at=float(int(ended)))
    seen = probe(facts(**GONE, attempt=known(was), end=known(is_over), broken=found))
    assert first_match(case(seen=seen)).id == "R-BREAK-1"
