"""attach: the user's own ssh, into the run's own window, read-only; and a word about the log where there is none."""

import contextlib
import os
import pty
import select
import shlex
import time

from laptop import BABYSIT, SOON_S, Job, Laptop
from waiting import wait_until


def _own_ssh(laptop):
    """An ssh that reads this laptop's settings: the real one finds HOME in the password file."""
    folder = laptop.home / "bin"
    folder.mkdir(exist_ok=True)
    script = folder / "ssh"
    script.write_text('#!/bin/sh\nexec /usr/bin/ssh -F "$HOME/.ssh/config" "$@"\n')
    script.chmod(0o755)
    return f"{folder}:{laptop.env['PATH']}"


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, laptop, *words):
        env = {**laptop.env, "PATH": _own_ssh(laptop), "TERM": "xterm"}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(words[0], [str(word) for word in words], env)  # noqa: S606 - a word list
        self.said = b""

    def shows(self, text, bound_s=60):
        deadline = time.monotonic() + bound_s
        while text.encode() not in self.said:
            assert time.monotonic() < deadline, self.said
            self._read()

    def _read(self):
        with contextlib.suppress(OSError):  # how a terminal says that its last user has left
            if select.select([self.fd], [], [], 0.2)[0]:
                self.said += os.read(self.fd, 65536)

    def _type(self, key):
        with contextlib.suppress(OSError):
            os.write(self.fd, key)
        self._read()

    def leaves(self, bound_s=60):
        """Ctrl-C once, then Ctrl-b, d until it is over; keys that come together would be a paste to tmux, and no keys."""
        deadline = time.monotonic() + bound_s
        try:
            # A read-only window takes no Ctrl-C; once detached, the far shell would take a second one.
            self._type(b"\x03")
            while True:
                self._type(b"\x02")
                self._type(b"d")
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    return os.waitstatus_to_exitcode(status)
                assert time.monotonic() < deadline, self.said
        finally:
            os.close(self.fd)


def test_it_shows_the_window_read_only_and_leaving_it_ends_nothing(night):
    laptop, job = night
    job.run = "run.with.dots"
    assert laptop.run("arm", "gpu1", job.run, "--", job.waiting()).returncode == 0
    job.up()
    assert job.record("attempt")["how"] == "tmux"
    terminal = Terminal(laptop, BABYSIT, "attach", "gpu1", job.run)
    terminal.shows("its output is in")
    terminal.shows("run.log")
    assert terminal.leaves() == 0, terminal.said
    assert laptop.run("attach", "gpu1", job.run, "--print").returncode == 0, "the window is still there"

    printed = laptop.run("attach", "gpu1", job.run, "--print", "--write").stdout
    words = shlex.split(printed)
    assert words[:2] == ["ssh", "-t"] and words[-2] == "gpu1" and " -r " not in words[-1]
    assert job.launches() == 1 and laptop.run("logs", "gpu1", job.run).returncode == 0
    assert not job.record("end")


def test_without_a_terminal_or_a_window_it_names_the_log(night):
    laptop, job = night
    assert laptop.run("arm", "gpu1", job.run, "--", job.waiting()).returncode == 0
    job.up()
    assert job.record("attempt")["how"] == "tmux"
    done = laptop.run("attach", "gpu1", job.run)
    assert done.returncode == 2 and f"next: babysit logs gpu1 {job.run} -f" in done.stderr, done.said
    job.release()
    job.ended()
    name = f"=babysit-{job.run_folder().name}"
    wait_until(
        lambda: job.box.run(f"tmux -L babysit has-session -t {name}").returncode, SOON_S, "the window is gone"
    )
    done = laptop.run("attach", "gpu1", job.run, "--print")
    assert done.returncode == 3 and "it has ended" in done.stderr and not done.stdout, done.said
    assert f"next: babysit logs gpu1 {job.run} -f" in done.stderr


def test_a_run_that_was_started_without_tmux_says_by_what(make_box, tmp_path):
    box = make_box(without=("tmux",))
    laptop, job = Laptop(tmp_path / "laptop", (box,)), Job(box)
    try:
        assert laptop.run("arm", "gpu1", job.run, "--", job.waiting()).returncode == 0
        done = laptop.run("attach", "gpu1", job.run, "--print")
        assert done.returncode == 3 and "started by setsid" in done.stderr, done.said
        assert f"next: babysit logs gpu1 {job.run} -f" in done.stderr
    finally:
        laptop.close()
