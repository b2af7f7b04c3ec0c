"""What lies in the folder while a loop runs: ours as the published loopmonitor 0.1.2 lays it, key by key."""

import json
import stat

import pytest
from peers import BOTH, OURS, THEIRS, held, moves, stops

pytestmark = pytest.mark.timeout(300)

STEPS = """
import time
from pathlib import Path
from MODULE import ipc_range
for step in ipc_range(1000, label="fünf wörter"):
    step.track(loss=0.5, count=3, nan=float("nan"), inf=float("inf"), none=None, flag=True, row=[1, 2.5], text="ü")
    while Path("hold").exists():
        Path("held").touch()
        time.sleep(0.005)
    Path("held").unlink(missing_ok=True)
    if Path("stop").exists():
        break
    time.sleep(0.005)
"""


def read(path):
    return json.loads(path.read_bytes(), parse_constant=lambda word: f"the word {word}")


def kinds(value):
    """`value` with its leaves replaced by their types."""
    if isinstance(value, dict):
        return {key: kinds(one) for key, one in value.items()}
    return [kinds(one) for one in value] if isinstance(value, list) else type(value).__name__


@pytest.fixture
def samples(folder):
    """Of each library: the registry entry, the state, the texts of both, and the modes of its files."""
    found = {}
    for module in BOTH:
        one = folder.turning(module, STEPS)
        moves(one)
        with held(one):
            texts = [(folder.ipc / name).read_bytes() for name in ("registry.json", f"{one.pid}.state.json")]
            entry = read(folder.ipc / "registry.json")[str(one.pid)]
            state = read(folder.ipc / f"{one.pid}.state.json")
            paths = [path for path in folder.ipc.iterdir() if path.name != "onbox" and path.name[0] != "."]
            modes = {path.name.replace(str(one.pid), "PID"): path.lstat().st_mode for path in paths}
        assert stops(one) == 0
        found[module] = (one, entry, state, texts, modes)
        assert one.left_behind() == []
        assert (folder.ipc / "registry.json").read_bytes() == b"{}"
    return found


def test_a_loop_lies_there_as_theirs_does(samples):  # R156
    (one, our_entry, our_state, our_texts, our_modes), other = samples[OURS], samples[THEIRS]
    their, their_entry, their_state, their_texts, their_modes = other
    assert list(our_entry) == list(their_entry)
    assert kinds(our_entry) == kinds(their_entry)
    assert len(our_entry["start_time"]) == len(their_entry["start_time"])
    changing = {"pid", "start_time", "script"}
    assert {key: our_entry[key] for key in {*our_entry} - changing} == {
        key: their_entry[key] for key in {*their_entry} - changing
    }
    assert list(our_state) == list(their_state)
    assert kinds(our_state) == kinds(their_state)
    assert our_state["tracked"] == their_state["tracked"]
    assert (our_state["total"], one.pid) == (1000, our_state["pid"])
    # The same text, too: indented by two, ASCII, no line end behind it.
    for text, other_text in zip(our_texts, their_texts, strict=True):
        assert text.isascii() and other_text.isascii()
        assert [line.split(b":")[0] for line in text.replace(b"%d" % one.pid, b"PID").splitlines()] == [
            line.split(b":")[0] for line in other_text.replace(b"%d" % their.pid, b"PID").splitlines()
        ]
        assert not text.endswith(b"\n")
    # The same names; ours are readable by nobody else.
    assert (
        set(our_modes) == set(their_modes) == {"registry.json", "registry.lock", "PID.fifo", "PID.state.json"}
    )
    for name, mode in our_modes.items():
        assert stat.S_IFMT(mode) == stat.S_IFMT(their_modes[name])
        assert stat.S_IMODE(mode) == 0o600, name
    assert stat.S_IMODE(their_modes["PID.fifo"]) == 0o600


@pytest.mark.parametrize("verb", ["checkpoint", "break"])
def test_a_snapshot_is_the_same(folder, verb):  # R156
    saved = []
    for module in BOTH:
        one = folder.turning(module, STEPS)
        with held(one):
            folder.asked(THEIRS, verb, one.pid)
            if verb == "checkpoint":
                one.begun("Checkpoint saved to ")
        if verb == "checkpoint":
            assert stops(one) == 0
        else:
            one.end()
        (path,) = one.home.glob(f"loopmonitor_{verb}_{one.pid}_*.json")
        saved.append(read(path))
    assert list(saved[0]) == list(saved[1])
    assert kinds(saved[0]) == kinds(saved[1])
    assert saved[0]["tracked"] == saved[1]["tracked"]
