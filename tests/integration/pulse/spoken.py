"""What a program with `progress` in it printed."""

import re

HEAD = """import sys, time
from onbox.pulse import heartbeat, progress, report, unbuffered
def heard(text):
    while True:
        with open("out") as said:
            if text in said.read(): return
        time.sleep(0.01)
"""
RATE = r" - [0-9.e+]+/s"


def lines(one):
    """What it said, without heartbeats and without what depends on time."""
    kept = [line for line in one.out().splitlines() if not line.startswith("[HEARTBEAT")]
    return [re.sub(RATE + r"| - (ETA )?\d+:\d\d:\d\d$", "", line) for line in kept]


def ended(program, text, code=0, **options):
    one = program(HEAD + text, **options)
    assert one.end(60) == code, one.err()
    return one
