"""A tick over 50 boxes on loopback, beside OpenSSH and bare paramiko doing the same visits, in one run.

All three send the same script and request to every box and read the whole answer. babysit also reads,
decides, stores and reports. Start-up is included. sshd runs on the same cores, so that connections a second
say less than the client's CPU a connection. Aims: at least 1.2 times the connections a second of OpenSSH
(curve25519, 16 at a time), at most 1.5 times the CPU of bare paramiko, at most 150 MB. Needs root.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/integration/night")]

from box import Box  # noqa: E402 - the rig of the tests is no package
from laptop import BABYSIT, Laptop  # noqa: E402 - as above

from fleet.ledger.ledger import Ledger  # noqa: E402 - as above
from fleet.link.base import COMMAND, packed  # noqa: E402 - as above
from fleet.text import frame  # noqa: E402 - as above
from fleet.text.templates import box_script  # noqa: E402 - as above
from patrol.ask import request_pairs  # noqa: E402 - as above

BOXES, ROUNDS, SIDE_BY_SIDE = 50, 5, 32
NAMES = [f"b{number:02d}" for number in range(BOXES)]
AIM_RATE, AIM_CPU, AIM_BYTES = 1.2, 1.5, 150_000_000

# Tuned as far as it goes: one key loaded once, the host key given, no delay on the socket, many at a time.
BARE = """
import json, queue, socket, sys, threading
import paramiko
told = json.load(open(sys.argv[1]))
key = paramiko.Ed25519Key.from_private_key_file(told["key"])
names, good = queue.SimpleQueue(), []
for _ in range(told["boxes"]): names.put(1)
def visit():
    while True:
        try: names.get_nowait()
        except queue.Empty: return
        sock = socket.create_connection(("127.0.0.1", told["port"]))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(sock)
        transport.start_client(timeout=30)
        assert transport.get_remote_server_key().get_base64() == told["host_key"]
        transport.auth_publickey(told["user"], key)
        channel = transport.open_session(timeout=30)
        channel.exec_command(told["command"])
        channel.sendall(open(told["stdin"], "rb").read())
        channel.shutdown_write()
        answer = b""
        while part := channel.recv(65536): answer += part
        assert channel.recv_exit_status() == 0
        good.append(len(answer))
        transport.close()
threads = [threading.Thread(target=visit) for _ in range(told["side_by_side"])]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(good) == told["boxes"], good
"""


class Cost(NamedTuple):
    """One run of one client."""

    took_s: float
    cpu_s: float
    peak_bytes: int


def measured(words: list[str], env: dict[str, str], cwd: Path) -> Cost:
    """What a command cost, its children included. Raises RuntimeError when it failed."""
    began = time.perf_counter()
    child = subprocess.Popen(words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"{words[0]} ended with {child.returncode}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def armed(laptop: Laptop) -> None:
    """One waiting run on each box."""

    def arm(name: str) -> None:
        done = laptop.run("arm", name, f"run-{name}", "--", "sleep 3600")
        if done.returncode:
            raise RuntimeError(done.said)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(arm, NAMES))


def clients(laptop: Laptop, box: Box, folder: Path) -> dict[str, list[str]]:
    """The three clients as command lines; the two peers ask about the first run on every box."""
    with Ledger.open(laptop.state, write=False) as ledger:
        run = ledger.runs.all()[0]
    request = frame.request("0" * 32, request_pairs((run,), {}, gpu=True, wait=None))
    script, stdin = box_script("frame", "records", "scan", "wait", "probe"), folder / "stdin"
    stdin.write_bytes(packed(script, request, 30))
    told = {
        "key": str(box.key),
        "boxes": BOXES,
        "port": box.port,
        "host_key": box.known_hosts_line.split()[2],
        "user": box.user,
        "command": COMMAND,
        "stdin": str(stdin),
        "side_by_side": SIDE_BY_SIDE,
    }
    (folder / "told.json").write_text(json.dumps(told))
    config, line = shlex.quote(str(laptop.home / ".ssh/config")), shlex.quote(COMMAND)
    options = "-T -oBatchMode=yes -oKexAlgorithms=curve25519-sha256"
    (folder / "one.sh").write_text(f"exec ssh -F {config} {options} $1 {line} < {shlex.quote(str(stdin))}\n")
    one = shlex.quote(str(folder / "one.sh"))
    return {
        "openssh": ["sh", "-c", f"printf '%s\\n' {' '.join(NAMES)} | xargs -P 16 -n 1 sh {one} >/dev/null"],
        "paramiko": [sys.executable, "-I", "-c", BARE, str(folder / "told.json")],
        "babysit": [str(BABYSIT), "patrol", "--once"],
    }


def quiet_tick(laptop: Laptop, box: Box) -> None:
    """Print what a tick costs that finds nothing new: connections, sessions, bytes of the ledger."""
    ledger = laptop.state / "ledger.db"
    sizes = [sum(path.stat().st_size for path in laptop.state.glob("ledger.db*"))]
    before = box.traffic()
    for _ in range(3):
        measured([str(BABYSIT), "patrol", "--once"], laptop.env, laptop.home)
        sizes.append(sum(path.stat().st_size for path in laptop.state.glob("ledger.db*")))
    after = box.traffic()
    visits = 3 * BOXES
    print(
        f"a quiet tick: {(after.connections - before.connections) / visits:.2f} connections and "
        f"{(after.sessions - before.sessions) / visits:.2f} sessions a box; "
        f"{ledger.name} and its log grew by {(sizes[-1] - sizes[0]) / 3 / BOXES:.0f} bytes a box and tick"
    )


def main() -> None:
    """Print medians and ratios."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        box = Box.start(folder / "box", home_mb=256, sshd_options=("MaxStartups 500", "MaxSessions 200"))
        laptop = Laptop(folder / "laptop", (box,))
        try:
            config = laptop.home / ".ssh/config"
            config.write_text(config.read_text().replace("Host gpu1", f"Host {' '.join(NAMES)}"))
            armed(laptop)
            costs: dict[str, list[Cost]] = {}
            lines = clients(laptop, box, folder)
            for number in range(ROUNDS + 1):
                for name, words in lines.items():
                    cost = measured(words, laptop.env, laptop.home)
                    if number:  # the first warms caches
                        costs.setdefault(name, []).append(cost)
            report(costs)
            quiet_tick(laptop, box)
        finally:
            laptop.close()
            box.stop()


def report(costs: dict[str, list[Cost]]) -> None:
    """Print each client's medians, and the three ratios beside their aims."""
    rate = {name: BOXES / statistics.median(cost.took_s for cost in all_) for name, all_ in costs.items()}
    cpu = {name: statistics.median(cost.cpu_s for cost in all_) / BOXES for name, all_ in costs.items()}
    peak = {name: max(cost.peak_bytes for cost in all_) for name, all_ in costs.items()}
    for name in costs:
        print(
            f"{name:9} {rate[name]:6.1f} connections/s   {cpu[name] * 1000:6.1f} ms CPU a connection   "
            f"{peak[name] / 1e6:5.0f} MB"
        )
    faster = rate["babysit"] / rate["openssh"]
    dearer = cpu["babysit"] / cpu["paramiko"]
    print(f"connections/s, babysit to OpenSSH: {faster:.2f}   aim at least {AIM_RATE}")
    print(f"CPU a connection, babysit to bare paramiko: {dearer:.2f}   aim at most {AIM_CPU}")
    print(f"peak memory of a tick: {peak['babysit'] / 1e6:.0f} MB   aim at most {AIM_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
