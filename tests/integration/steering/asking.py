"""The `ipc` command as a person or a program starts it, and a loop of the 0.1.x wire that is not ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

from onbox.ipc.channel import Channel
from onbox.ipc.command import main

ROOT = Path(__file__).parents[3]

# A program that speaks the wire of loopmonitor 0.1.x and knows nothing of ours. Its messages go to standard output.
THEIRS = """
import ast, datetime, json, os, signal, sys, time
home, pid = os.environ["LOOPCTL_DIR"], os.getpid()
label, mute, language = (sys.argv + ["theirs", "", "python"][len(sys.argv) - 1:])[1:4]
os.makedirs(home, mode=0o700, exist_ok=True)
fifo, state_at, registry = (os.path.join(home, name % pid) if "%" in name else os.path.join(home, name)
                            for name in ("%d.fifo", "%d.state.json", "registry.json"))
stopping, values, state = False, {}, {}

def listed(change):
    try:
        entries = json.load(open(registry))
    except OSError:
        entries = {}
    change(entries)
    with open(registry, "w") as out:
        json.dump(entries, out, indent=2)

def snapshot(kind):
    name = "loopmonitor_%s_%d_%s.json" % (kind, pid, datetime.datetime.utcnow().strftime("%Y%m%dT%H%M%S"))
    with open(name, "w") as out:
        json.dump(state, out, indent=2)

def heard(number, frame):
    global stopping
    for line in os.read(reading, 4096).decode().splitlines():
        print("heard", line, flush=True)
        if line == "continue" and not mute:
            stopping = True
        elif line == "break" and not mute:
            snapshot("break")
            sys.exit(0)
        elif line == "checkpoint" and not mute:
            snapshot("checkpoint")
        elif line.startswith("set "):
            key, _, text = line[4:].partition("=")
            values[key] = ast.literal_eval(text)

started = datetime.datetime.now(datetime.timezone.utc).isoformat()
entry = dict(pid=pid, label=label, script=sys.argv[0], language=language, start_time=started, ppid=os.getppid())
if language != "R":
    os.mkfifo(fifo, 0o600)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    signal.signal(signal.SIGUSR1, heard)
listed(lambda entries: entries.update({str(pid): entry}))
print("begun", flush=True)
try:
    turn = 0
    while not stopping:
        turn += 1
        state = dict(pid=pid, iteration=turn, total=None, elapsed_sec=turn * 0.01, eta_sec=None,
                     tracked=dict(values, loss=1 / turn, row=[1, 2, turn]), updated=started)
        with open(state_at + ".new", "w") as out:
            json.dump(state, out)
        os.rename(state_at + ".new", state_at)
        time.sleep(0.005)
finally:
    if language != "R":
        os.close(reading)
        os.unlink(fifo)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    listed(lambda entries: entries.pop(str(pid), None))
    os.path.exists(state_at) and os.unlink(state_at)
print("behind the loop", flush=True)
"""


class Asker:
    """`ipc` over one folder, inside of this process: the exit code, and what stood on both streams.

    Where the words name no time, an answer may take a minute: a busy machine is not what is tested.
    """

    def __init__(self, folder, monkeypatch, capsys):
        monkeypatch.setenv("LOOPCTL_DIR", str(folder))
        self.folder, self._capsys = folder, capsys

    def __call__(self, *words):
        self._capsys.readouterr()
        patience = ["--wait", "60"] if words[1:] and "--wait" not in words else []
        code = main([*(str(word) for word in words), *patience])
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *words):
        """The document; its exit code is that of the command."""
        code, out, _ = self(*words, "--json")
        said = json.loads(out)
        assert said["exit_code"] == code and said["schema"] == "onbox.ipc/1"
        return said

    def fifos(self):
        """Answer FIFOs that lie in the folder."""
        return sorted(path.name for path in (self.folder / "onbox").glob("*.fifo"))

    def unread(self, pid):
        """How many bytes of questions lie before a loop that stands: its asker now waits."""
        channel = Channel(self.folder / f"{pid}.fifo")
        try:
            return channel.unread()
        finally:
            channel.close()


def command(folder, *words, python=sys.executable, env=(), **options):
    """The command as a child of its own, its streams as pipes."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LOOPCTL_DIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        **dict(env),
    }
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    arguments = [python, "-m", "onbox", "ipc", *map(str, words)]
    return subprocess.Popen(arguments, env=environment, cwd=str(ROOT), text=True, **pipes)
