"""The hostile corpus on a real box, through every command that shows a box's text."""

import json
import os
import random
import subprocess
import sys
import unicodedata

from hostile import CANARY, CORPUS, ENTRIES
from laptop import BABYSIT, SOON_S
from receiver import receiver
from waiting import wait_until

KINDS = tuple(CORPUS)
MEMORY_BYTES = 150_000_000  # what one tick may take


def harmless(text: str) -> None:
    bad = [
        char
        for char in text
        if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
    ]
    assert not bad


# Started by a small process: what we held when it was started would count as its own.
_MEASURED = """
import os, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=False)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def peak_bytes(laptop, *words: str) -> tuple[int, int]:
    """A command's exit code and the most memory it held."""
    command = [sys.executable, "-c", _MEASURED, str(BABYSIT), *words]
    done = subprocess.run(command, env=laptop.env, capture_output=True, text=True, timeout=150, check=True)
    exit_code, peak = map(int, done.stdout.split())
    return exit_code, peak


def test_nothing_that_a_job_prints_acts_steers_or_runs(night):  # S17 S22 S23 S24 S25 S26 S33 S39 P2 P9 R42
    laptop, job = night
    with receiver() as hook:
        laptop.env["HOOK_URL"] = hook.url()
        laptop.spec(
            f"""
            [run.{job.run}]
            box = "gpu1"

            [[run.{job.run}.stages]]
            name = "train"
            command = '''{job.waiting("exit 3")}'''

            [notify.hook]
            url = "env:HOOK_URL"
            """
        )
        assert laptop.run("arm", "gpu1", job.run).returncode == 0
        job.up()
        log = job.run_folder() / "run.log"
        calm = laptop.patrol()["runs"][0]
        # All of it, a quarter at a time; then a seeded few as the very last line, which is shown.
        seed = random.randrange(10**6)
        print(f"seed {seed}")
        few = [entry for _, entry in random.Random(seed).sample(ENTRIES, 4)]
        for part in (
            *(tuple(b"\n".join(CORPUS[kind]) for kind in KINDS[at::4]) for at in range(4)),
            *([each] for each in few),
        ):
            with log.open("ab") as file:
                file.write(b"\n".join((*part, b"")))
            seen = laptop.patrol()["runs"][0]
            assert (seen["health"], seen["row"], seen["next"]) == (
                calm["health"],
                calm["row"],
                calm["next"],
            ), part
        os.truncate(log, log.stat().st_size + 100_000_000)  # a line without an end
        with log.open("ab") as file:
            file.write(b"x" * 1_000_000)
        exit_code, peak = peak_bytes(laptop, "patrol", "--once")
        print(f"a tick over a line of 101 MB: {peak / 1e6:.0f} MB")
        assert exit_code == 0
        assert peak < MEMORY_BYTES
        with log.open("ab") as file:
            file.write(b"\n" + b"\n".join(entry for _, entry in ENTRIES if len(entry) < 1000) + b"\n")
        job.release()
        job.ended()
        failed = laptop.patrol()
        assert failed["runs"][0]["health"] == "failed"
        shown = [laptop.run("patrol", "--once"), laptop.run("status"), laptop.run("resume", job.run)]
        shown += [
            laptop.run("logs", "gpu1", job.run),
            laptop.run("handbook", job.run),
            laptop.run("stop", job.run, "--yes"),
        ]
        for done in shown:
            harmless(done.said)
        logged = shown[3].stdout.splitlines()
        assert "<!channel>" in logged and "{{ 7*7 }}" in logged
        as_json = [laptop.run(*words, "--json") for words in (("status",), ("resume", job.run))]
        for done in as_json:
            assert done.stdout.isascii() and json.loads(done.stdout)
        wait_until(lambda: hook.hits, SOON_S, "the notice")
    for hit in hook.hits:
        harmless(hit.json["message"])
        harmless(hit.json["title"])
        told = [line for line in hit.json["message"].splitlines() if line.startswith("next: ")]
        assert told == [f"next: {command}" for command in failed["runs"][0]["next"][:2]]
    for home in (laptop.home, job.box.home):
        assert not list(home.rglob(CANARY))
    assert not os.path.lexists(CANARY)
