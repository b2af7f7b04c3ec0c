"""Init: a file that our own reader takes, never over another one, and a first look at its box."""

import contextlib
import os
import pty
import select
import stat
import subprocess
import time

import pytest
from laptop import BABYSIT, SOON_S, Laptop

from fleet.spec import find

CHOSEN = ("--box", "gpu1", "--run", "train", "--")
COMMAND = 'python train.py --note "it\'s 50 %" | tee out'


@pytest.fixture
def stranger(tmp_path, shared):
    """A laptop that has never seen the box, with an alias for it."""
    laptop = Laptop(tmp_path / "laptop", (shared,), known=False)
    yield laptop
    laptop.close()


def test_elsewhere_than_at_a_terminal_a_box_is_named_and_its_key_confirmed_by_fingerprint(
    stranger, shared
):  # R25 S1
    before = shared.traffic()
    done = stranger.run("init", *CHOSEN, COMMAND)
    assert done.returncode == 4, done.said
    now = shared.traffic()
    assert (now.logins, now.auth_attempts) == (before.logins, before.auth_attempts)
    written = stranger.home / "babysit.toml"
    assert f"wrote {written}" in " ".join(done.stdout.split())
    spec = find.read(written)
    assert spec.boxes["gpu1"].host == "gpu1" and spec.runs["train"].stages[0].command == COMMAND
    # The command as it is shown, then the next one as that says.
    command = f"babysit trust gpu1 --fingerprint {shared.fingerprint}"
    assert f"next: {command}\n" in done.stdout, done.said
    assert stranger.run(*command.split()[1:]).returncode == 0
    doctor = stranger.run("doctor", "gpu1")
    assert doctor.returncode == 0, doctor.said


def test_with_the_fingerprint_it_goes_through_and_ends_with_the_next_command(stranger, shared):
    address = ("--host", "127.0.0.1", "--port", str(shared.port), "--user", shared.user)
    words = ("init", "--box", "rented.1", *address, "--identity", str(shared.key), "--json")
    wrong = stranger.run(*words, "--fingerprint", "SHA256:" + "A" * 43)
    assert wrong.returncode == 4 and shared.fingerprint in wrong.said, wrong.said
    (stranger.home / "babysit.toml").unlink()
    done = stranger.run(*words, "--fingerprint", shared.fingerprint)
    document = done.json
    assert (done.returncode, document["exit_code"], document["written"]) == (0, 0, True), done.said
    assert (
        document["schema"] == "babysit.init/1"
        and document["text"] == (stranger.home / "babysit.toml").read_text()
    )
    assert {line["level"] for line in document["lines"]} <= {"ok", "warn"}
    assert document["next"] == ["babysit arm rented.1 train -- COMMAND"]
    assert find.read(stranger.home / "babysit.toml").boxes["rented.1"].port == shared.port


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_whatever_the_umask_nobody_else_may_write_the_file(stranger, umask):  # S41
    done = subprocess.run(
        [BABYSIT, "init", "--box", "gpu1", "--no-test"],
        env=stranger.env,
        cwd=stranger.home,
        umask=umask,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    mode = stat.S_IMODE((stranger.home / "babysit.toml").stat().st_mode)
    assert mode & 0o022 == 0 and mode & 0o600 == 0o600
    assert "next: babysit doctor gpu1" in done.stdout


def test_a_file_that_is_there_stays_and_what_it_would_have_been_is_shown(stranger):
    file = stranger.home / "babysit.toml"
    file.write_text("# mine\n")
    done = stranger.run("init", "--box", "gpu2")
    assert done.returncode == 2 and str(file) in done.stderr and '\nhost = "gpu2"\n' in done.stdout, done.said
    as_json = stranger.run("init", "--box", "gpu2", "--json").json
    assert as_json["written"] is False and as_json["exit_code"] == 2 and "gpu2" in as_json["text"]
    assert stranger.run("init").returncode == 2
    file.unlink()
    file.symlink_to(stranger.home / "elsewhere.toml")
    assert stranger.run("init", "--box", "gpu2").returncode == 2
    assert file.is_symlink() and not (stranger.home / "elsewhere.toml").exists()


def test_without_a_terminal_and_without_a_box_it_asks_nothing_and_says_how(stranger):
    done = stranger.run("init")
    assert done.returncode == 2 and "next: babysit init --box" in done.stderr, done.said
    assert not (stranger.home / "babysit.toml").exists()


def test_a_folder_that_cannot_be_written_is_said(stranger):
    done = subprocess.run(
        [BABYSIT, "init", "--box", "gpu1"],
        env=stranger.env,
        cwd="/proc",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "cannot write /proc/babysit.toml" in done.stderr, done.stderr


def _at_a_terminal(laptop, *words, answers):
    """`words` with a real terminal around them; each answer is entered when its question stands there."""
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
    screen, seen = b"", 0
    waiting = list(answers)
    deadline = time.monotonic() + 2 * SOON_S
    try:
        while time.monotonic() < deadline:
            if not select.select([here], [], [], 0.2)[0]:
                continue
            try:
                screen += os.read(here, 4096)
            except OSError:  # Linux: the other side of the terminal is closed
                break
            if waiting and (at := screen.find(waiting[0][0].encode(), seen)) >= 0:
                seen = at + len(waiting[0][0])
                os.write(here, waiting.pop(0)[1].encode() + b"\n")
        return child.wait(SOON_S), screen.decode().replace("\r\n", "\n"), waiting
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        with contextlib.suppress(OSError):
            os.close(here)


def test_at_a_terminal_it_asks_suggests_hosts_and_pins_the_typed_fingerprint_only(stranger, shared):  # S1
    with (stranger.home / ".ssh/config").open("a") as config:
        config.write("Host *.lab gpu9\n")
    answers = (
        ("Box (", "gpu1"),
        ("Name of a job", "train"),
        ("Its command", COMMAND),
        ("Write this", "y"),
        ("Type the new fingerprint", shared.fingerprint),
    )
    code, screen, unasked = _at_a_terminal(stranger, "init", answers=answers)
    assert (code, unasked) == (0, []), screen
    assert "gpu1, gpu9" in screen and "*.lab" not in screen
    assert "next: babysit arm gpu1 train" in screen
    assert find.read(stranger.home / "babysit.toml").runs["train"].stages[0].command == COMMAND


def test_at_a_terminal_no_is_no(stranger):
    code, screen, _ = _at_a_terminal(
        stranger, "init", "--box", "gpu1", answers=(("Name of a job", ""), ("Write this", "n"))
    )
    assert code == 5 and "nothing was written" in screen and not (stranger.home / "babysit.toml").exists(), (
        screen
    )


def test_at_a_terminal_what_cannot_be_a_name_is_asked_again_at_once(stranger):
    box, job = "Box (", "Name of a job"
    answers = ((box, "gpu 1"), (box, "gpu1"), (job, "my train"), (job, ""), ("Write this", "n"))
    code, screen, unasked = _at_a_terminal(stranger, "init", answers=answers)
    assert (code, unasked) == (5, []), screen
    assert screen.count("Error: letters, digits") == 2, screen
