"""What a tick imports of the SSH libraries, and what it leaves to others."""

import subprocess
import sys

SCRIPT = """
import sys
from fleet.link.light import load_paramiko
load_paramiko()
load_paramiko()
from fleet.link import ssh
print(sorted({"paramiko", "fabric", "invoke"} & set(sys.modules)))
import fabric
print(sorted({"paramiko", "fabric", "invoke"} & set(sys.modules)), bool(fabric.Connection("gpu1")))
"""
AFTER = """
import invoke, sys
from fleet.link.light import load_paramiko
load_paramiko()
import paramiko
print(sys.modules["invoke"] is invoke, paramiko.config.invoke is invoke)
"""


def said(script: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_tick_loads_neither_fabric_nor_invoke_and_both_still_load_afterwards():
    assert said(SCRIPT) == ["['paramiko']", "['fabric', 'invoke', 'paramiko'] True"]


def test_who_has_invoke_already_keeps_it():
    assert said(AFTER) == ["True True"]
