"""A box that shows its key at a new address is followed after one confirmation, and an image's twin is not."""

import contextlib
import os
import pty
import select
import shutil
import sqlite3
import subprocess
import time

import pytest
from false_boxes import relays, serving
from laptop import BABYSIT, Job, Laptop

pytestmark = [pytest.mark.box, pytest.mark.timeout(300)]

FOR_GOOD = 10**12  # bytes that the relay lets through


@pytest.fixture
def laptop(tmp_path, box):
    laptop = Laptop(tmp_path / "laptop", (box,))
    yield laptop
    laptop.close()


@pytest.fixture
def job(laptop, box):
    job = Job(box)
    armed = laptop.run("arm", "gpu1", "train", "--", job.waiting())
    assert armed.returncode == 0, armed.said
    job.up()
    assert laptop.health("train") in ("starting", "running")
    yield job
    job.release()


def moves(laptop: Laptop, port: int) -> str:
    """The alias leads to another port from now on; returns the new address."""
    config = laptop.home / ".ssh/config"
    config.write_text(config.read_text().replace(f"Port {laptop.boxes[0].port}", f"Port {port}"))
    return f"127.0.0.1:{port}"


def pinned_at(laptop: Laptop, *, change: str | None = None) -> str | None:
    with contextlib.closing(sqlite3.connect(laptop.state / "ledger.db", timeout=10)) as ledger, ledger:
        if change is not None:
            ledger.execute(change)
        return ledger.execute("SELECT address FROM pin WHERE box = 'gpu1'").fetchone()[0]


def at_a_terminal(laptop: Laptop, types: str) -> tuple[int, str]:
    """`babysit trust gpu1` with a terminal around it; `types` is entered at its question."""
    here, there = pty.openpty()
    words = [BABYSIT, "trust", "gpu1"]
    env = {**laptop.env, "TERM": "xterm"}
    streams = {"stdin": there, "stdout": there, "stderr": there}
    child = subprocess.Popen(words, env=env, cwd=laptop.home, start_new_session=True, **streams)
    os.close(there)
    screen, deadline = b"", time.monotonic() + 90
    try:
        while time.monotonic() < deadline:
            if not select.select([here], [], [], 0.2)[0]:
                continue
            try:
                got = os.read(here, 4096)
            except OSError:  # Linux: the other side of the terminal is closed
                break
            screen += got
            if types and screen.rstrip().endswith(b":"):
                os.write(here, types.encode() + b"\n")
                types = ""
        return child.wait(60), screen.decode().replace("\r\n", "\n")
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        os.close(here)


def test_a_moved_box_is_followed_after_one_confirmation(laptop, box, job):  # R14 R25
    old = f"127.0.0.1:{box.port}"
    assert pinned_at(laptop) == old
    with serving(relays(box.port, FOR_GOOD, "stop")) as port:
        new = moves(laptop, port)
        before = box.traffic()
        found = laptop.patrol()
        run = found["runs"][0]
        assert (found["exit_code"], run["health"], run["row"]) == (4, "unreachable", "R-MOVED-1")
        assert run["next"] == ["babysit trust gpu1"]
        assert run["facts_at"] is not None
        for words in (("stop", "train", "--yes"), ("logs", "gpu1", "train"), ("resume", "train", "--yes")):
            refused = laptop.run(*words)
            assert refused.returncode == 4, refused.said
            assert "babysit trust gpu1" in refused.said
        error = laptop.run("arm", "gpu1", "other", "--json", "--", "true").json
        assert error["code"] == "BS-MOVED" and old in error["what"] and new in error["what"], error
        assert box.traffic().sessions == before.sessions, "nothing may be asked before a person confirmed"
        # Without a terminal it is shown, and the command that confirms it.
        asked = laptop.run("trust", "gpu1")
        assert asked.returncode == 5, asked.said
        assert f"was at {old}" in asked.stdout and f"now at {new}" in asked.stdout
        assert "the same box id" in asked.stdout
        assert "next: babysit trust gpu1 --yes" in asked.stderr
        assert pinned_at(laptop) == old
        assert at_a_terminal(laptop, "n")[0] == 5
        assert pinned_at(laptop) == old
        assert laptop.run("trust", "gpu1", "--yes").returncode == 0
        assert pinned_at(laptop) == new
        assert laptop.health("train") == "running"
        # And back again, by a y.
        config = laptop.home / ".ssh/config"
        config.write_text(config.read_text().replace(f"Port {port}", f"Port {box.port}"))
        assert laptop.patrol()["runs"][0]["row"] == "R-MOVED-1"
        code, screen = at_a_terminal(laptop, "y")
        assert code == 0 and f"followed to {old}" in screen, screen
        assert laptop.health("train") == "running"


def test_a_pin_without_an_address_gets_it_with_the_next_answer(laptop, box, job):
    assert pinned_at(laptop, change="UPDATE pin SET address = NULL") is None
    with serving(relays(box.port, FOR_GOOD, "stop")) as port:
        new = moves(laptop, port)
        assert laptop.health("train") == "running"
        assert pinned_at(laptop) == new


@pytest.mark.parametrize("twin_has", ["no id", "its own id"])
def test_an_image_s_twin_at_a_new_address_is_not_the_box(laptop, box, job, make_box, twin_has):  # R14 R25 S2
    twin = make_box("twin")
    twin.drop_sshd()
    for key in box.folder.glob("host_key_*"):
        shutil.copy(key, twin.folder / key.name)
    twin.raise_sshd()
    with (twin.home / ".ssh/authorized_keys").open("a") as keys:
        keys.write(box.key.with_name("client_key.pub").read_text())
    if twin_has == "its own id":
        twin.run(
            "mkdir -p -m 700 ~/.local/state/babysit; echo id=0123456789abcdef0123456789abcdef > ~/.local/state/babysit/box"
        )
    old = pinned_at(laptop)
    moves(laptop, twin.port)
    assert laptop.patrol()["runs"][0]["row"] == "R-MOVED-1"
    # The key alone is no proof: an image gives the same one to every box.
    refused = laptop.run("trust", "gpu1", "--yes")
    assert refused.returncode == 5, refused.said
    assert "another machine" in refused.stdout and "not the box id" in refused.stdout
    assert f"--fingerprint {box.fingerprint}" in refused.stderr
    assert pinned_at(laptop) == old
    # Who insists has said that it is another machine: its runs are not taken for the old ones.
    assert laptop.run("trust", "gpu1", "--fingerprint", box.fingerprint).returncode == 0
    assert laptop.health("train") == "lost"


def test_a_changed_key_at_a_new_address_still_needs_its_fingerprint(laptop, job, make_box):  # R25 S2
    other = make_box("other")
    moves(laptop, other.port)
    assert laptop.patrol()["runs"][0]["row"] == "R-HOSTKEY-2"
    refused = laptop.run("trust", "gpu1", "--yes")
    assert refused.returncode == 5 and f"--fingerprint {other.fingerprint}" in refused.stderr, refused.said
    assert other.traffic().auth_attempts == 0
