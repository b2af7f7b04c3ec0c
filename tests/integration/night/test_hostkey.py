"""A box's key is confirmed by a person, once, and never silently replaced: nothing is sent to a stranger."""

import os
import pty
import select
import subprocess
import time

import pytest
from laptop import BABYSIT, SOON_S, Job, Laptop

from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Pin
from fleet.link.hostkeys import fingerprint


def _stranger(tmp_path, box, name="laptop"):
    """A laptop that has never seen the box."""
    return Laptop(tmp_path / name, (box,), known=False)


def _asked(before, box):
    """What sshd saw since: connections may come, an offered key may not."""
    now = box.traffic()
    return now.logins - before.logins, now.auth_attempts - before.auth_attempts


@pytest.fixture
def own_job(shared, request):
    job = Job(shared, request.node.name[:40].strip("_"), run="key")
    yield job
    job.release()


def test_an_unknown_key_is_exit_4_with_the_command_and_nothing_is_sent(tmp_path, box, job):  # R25 S1
    laptop = _stranger(tmp_path, box)
    before = box.traffic()
    refused = laptop.run("arm", "gpu1", "train", "--", job.waiting())
    assert refused.returncode == 4, refused.said
    assert _asked(before, box) == (0, 0)
    assert box.fingerprint in refused.stderr and "next: babysit trust gpu1" in refused.stderr, refused.said
    assert not (box.home / ".local").exists()
    # The commands as they are shown make it work.
    shown = laptop.run("trust", "gpu1").stderr.partition("next: babysit ")[2].split()
    assert shown == ["trust", "gpu1", "--fingerprint", box.fingerprint]
    assert laptop.run(*shown).returncode == 0
    armed = laptop.run("arm", "gpu1", "train", "--", job.waiting())
    assert armed.returncode == 0, armed.said
    job.release()


def test_a_changed_key_is_exit_4_everywhere_and_no_login_is_tried(tmp_path, box, job):  # R25 S2
    laptop = _stranger(tmp_path, box)
    old = box.fingerprint
    assert laptop.run("trust", "gpu1", "--fingerprint", old).returncode == 0
    assert laptop.run("arm", "gpu1", "train", "--", job.waiting()).returncode == 0
    job.up()
    box.swap_host_key()
    before = box.traffic()
    refused = (
        ("patrol", "--once"),
        ("arm", "gpu1", "train", "--", job.waiting()),
        ("resume", "train", "--yes"),
    )
    for child in [laptop.start(*words) for words in refused]:
        said = " ".join("".join(child.communicate(timeout=2 * SOON_S)).split())
        assert child.returncode == 4, said
        assert old in said and box.fingerprint in said and "nothing was sent" in said.lower(), said
        assert f"babysit trust gpu1 --fingerprint {box.fingerprint}" in said
    assert _asked(before, box) == (0, 0)
    document = laptop.patrol()["runs"][0]
    assert (document["health"], document["row"]) == ("unreachable", "R-HOSTKEY-2")
    assert job.launches() == 1
    # Once a person confirmed the new key, the run is seen again.
    assert laptop.run("trust", "gpu1", "--fingerprint", box.fingerprint).returncode == 0
    assert laptop.health("train") == "running"
    job.release()


def test_trust_with_another_fingerprint_pins_nothing(tmp_path, shared):  # S1
    laptop = _stranger(tmp_path, shared)
    wrong = "SHA256:" + "A" * 43
    refused = laptop.run("trust", "gpu1", "--fingerprint", wrong)
    assert refused.returncode == 4 and shared.fingerprint in refused.stderr, refused.said
    assert laptop.run("arm", "gpu1", "key", "--", "true").returncode == 4


def test_trust_without_a_terminal_asks_for_the_fingerprint_and_pins_nothing(tmp_path, shared):  # R25 S1
    laptop = _stranger(tmp_path, shared)
    before = shared.traffic()
    refused = laptop.run("trust", "gpu1")
    assert refused.returncode == 5, refused.said
    assert f"next: babysit trust gpu1 --fingerprint {shared.fingerprint}" in refused.stderr
    assert "console" in refused.stderr
    assert laptop.run("arm", "gpu1", "key", "--", "true").returncode == 4
    assert _asked(before, shared) == (0, 0)


def _at_a_terminal(laptop, *words, types):
    """`words` with a real terminal around them; `types` is entered at the question. Exit code and screen."""
    here, there = pty.openpty()
    child = subprocess.Popen(
        [BABYSIT, *words],
        env={**laptop.env, "TERM": "xterm"},
        cwd=laptop.home,
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
    )
    os.close(there)
    screen = b""
    typed = False
    deadline = time.monotonic() + SOON_S
    try:
        while time.monotonic() < deadline:
            if not select.select([here], [], [], 0.2)[0]:
                continue
            try:
                got = os.read(here, 4096)
            except OSError:  # Linux: the other side of the terminal is closed
                break
            screen += got
            if not typed and b"Type the new fingerprint" in screen:
                os.write(here, types.encode() + b"\n")
                typed = True
        return child.wait(SOON_S), screen.decode().replace("\r\n", "\n")
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        os.close(here)


def test_trust_at_a_terminal_pins_what_was_typed_and_nothing_else(tmp_path, shared):  # R25 S1
    laptop = _stranger(tmp_path, shared)
    code, screen = _at_a_terminal(laptop, "trust", "gpu1", types="yes")
    assert code == 4 and "not yes; nothing was pinned" in " ".join(screen.split()), screen
    assert "next: babysit trust gpu1" in screen
    assert laptop.run("arm", "gpu1", "key", "--", "true").returncode == 4
    code, screen = _at_a_terminal(laptop, "trust", "gpu1", types=shared.fingerprint)
    assert code == 0, screen
    assert f"offers {shared.fingerprint}" in screen and "known  none" in screen
    again = laptop.run("trust", "gpu1")
    assert again.returncode == 0 and "nothing to do" in again.stdout, again.said


def _key_of(box, kind):
    return (box.folder / f"host_key_{kind}.pub").read_text().split()[:2]


def test_trust_asks_for_a_key_of_the_pinned_type_and_says_when_there_is_none(tmp_path, make_box):  # R25 S2
    box = make_box(host_keys=("ed25519", "ecdsa"))
    laptop = _stranger(tmp_path, box)
    kind, b64 = _key_of(box, "ecdsa")
    with Ledger.open(laptop.state, write=True) as ledger:
        ledger.pins.put(Pin("gpu1", kind, b64, 1.0, "trust"))
    same = laptop.run("trust", "gpu1")
    assert same.returncode == 0 and "nothing to do" in same.stdout, same.said
    assert kind in same.stdout and "another type" not in same.said
    # Whoever reads another of its keys at the console may confirm that one.
    assert (
        laptop.run("trust", "gpu1", "--fingerprint", fingerprint(_key_of(box, "ed25519")[1])).returncode == 0
    )
    with Ledger.open(laptop.state, write=True) as ledger:
        assert ledger.pins.find("gpu1").key_type == "ssh-ed25519"
        ledger.pins.put(Pin("gpu1", kind, b64, 1.0, "trust"))
    box.drop_sshd()
    config = box.folder / "sshd_config"
    config.write_text(
        "\n".join(line for line in config.read_text().splitlines() if "host_key_ecdsa" not in line) + "\n"
    )
    box.raise_sshd()
    other = laptop.run("trust", "gpu1")
    assert other.returncode == 5 and "ssh-ed25519" in other.stdout, other.said
    assert f"another type: {kind} was asked for first" in other.stdout


def test_a_key_in_the_users_known_hosts_counts_and_stays_when_it_is_removed_there(
    tmp_path, shared, own_job
):  # S4
    laptop = _stranger(tmp_path, shared)
    file = laptop.home / ".ssh/known_hosts"
    file.write_text(shared.known_hosts_line + "\n")
    armed = laptop.run("arm", "gpu1", "key", "--", own_job.waiting())
    assert armed.returncode == 0, armed.said
    assert file.read_text() == shared.known_hosts_line + "\n"  # read, never written
    file.unlink()
    assert laptop.health("key") == "running"
    own_job.release()
    own_job.ended()


def test_the_pin_decides_over_a_known_hosts_file_that_says_otherwise(tmp_path, box):  # S2 S4
    laptop = _stranger(tmp_path, box)
    assert laptop.run("trust", "gpu1", "--fingerprint", box.fingerprint).returncode == 0
    box.swap_host_key()
    (laptop.home / ".ssh/known_hosts").write_text(box.known_hosts_line + "\n")
    before = box.traffic()
    assert laptop.run("arm", "gpu1", "key", "--", "true").returncode == 4
    assert _asked(before, box) == (0, 0)
