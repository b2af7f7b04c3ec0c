"""A tick over 50 boxes on loopback, beside OpenSSH and bare paramiko doing the same visits, in one run.

All three send the same script and request to every box and read the whole answer. babysit also reads,
decides, stores and reports. Nothing is measured before a tick is quiet: one connection a box, nothing new.
CPU is the client's, its children's included, once with its start-up and once without: what each box costs
beyond the first. sshd and the probe run on the same cores, and take most of them. Aims: at least 1.2 times
the connections a second of OpenSSH (curve25519, 16 at a time), at most 1.5 times the CPU of bare paramiko
with start-up, at most 150 MB. Needs root.
"""

import json
import os
import shlex
import signal
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
from sshd import command_line  # noqa: E402 - as above

from fleet.ledger.ledger import Ledger  # noqa: E402 - as above
from fleet.link.base import COMMAND, packed  # noqa: E402 - as above
from fleet.text import frame  # noqa: E402 - as above
from fleet.text.templates import box_script  # noqa: E402 - as above
from patrol.ask import request_pairs  # noqa: E402 - as above

BOXES, ROUNDS, WARM, SIDE_BY_SIDE, NEWS = 50, 5, 20, 32, 3
MOST_ROUNDS = 4 * ROUNDS
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


def measured(words: list[str], env: dict[str, str], cwd: Path, good: tuple[int, ...] = (0,)) -> Cost:
    """What a command cost, its children included. Raises RuntimeError when its exit code is no `good` one."""
    began = time.perf_counter()
    child = subprocess.Popen(words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in good:
        raise RuntimeError(f"{words[0]} ended with {child.returncode}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def armed(laptop: Laptop, names: list[str], prefix: str) -> None:
    """One waiting run on each box."""

    def arm(name: str) -> None:
        done = laptop.run("arm", name, f"{prefix}-{name}", "--", "sleep 3600")
        if done.returncode:
            raise RuntimeError(done.said)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(arm, names))


def tick(laptop: Laptop, box: Box) -> tuple[Cost, int]:
    """What one tick cost, and the connections that it made."""
    before = box.traffic().connections
    cost = measured(
        [str(BABYSIT), "patrol", "--once"], laptop.env, laptop.home, good=(0, 20)
    )  # 20: a job failed
    return cost, box.traffic().connections - before


def warmed(laptop: Laptop, box: Box, boxes: int) -> None:
    """Tick until two in a row are quiet: the handbooks of new runs are still on their way."""
    quiet = 0
    for number in range(1, WARM + 1):
        cost, made = tick(laptop, box)
        print(f"warm-up tick {number} over {boxes}: {made} connections, {cost.cpu_s:.2f} s CPU", flush=True)
        quiet = quiet + 1 if made == boxes else 0
        if quiet == 2:
            return
    raise RuntimeError(f"still not one connection a box after {WARM} ticks")


def peers(laptop: Laptop, box: Box, folder: Path, names: list[str]) -> dict[str, list[str]]:
    """The two peers as command lines; both ask about the first run on every box."""
    with Ledger.open(laptop.state, write=False) as ledger:
        run = ledger.runs.all()[0]
    request = frame.request("0" * 32, request_pairs((run,), {}, gpu=True, wait=None))
    script, stdin = box_script("frame", "records", "scan", "wait", "probe"), folder / "stdin"
    stdin.write_bytes(packed(script, request, 30))
    told = {
        "key": str(box.key),
        "boxes": len(names),
        "port": box.port,
        "host_key": box.known_hosts_line.split()[2],
        "user": box.user,
        "command": COMMAND,
        "stdin": str(stdin),
        "side_by_side": SIDE_BY_SIDE,
    }
    told_file, one = folder / f"told-{len(names)}.json", shlex.quote(str(folder / "one.sh"))
    told_file.write_text(json.dumps(told))
    config, line = shlex.quote(str(laptop.home / ".ssh/config")), shlex.quote(COMMAND)
    options = "-T -oBatchMode=yes -oKexAlgorithms=curve25519-sha256"
    (folder / "one.sh").write_text(f"exec ssh -F {config} {options} $1 {line} < {shlex.quote(str(stdin))}\n")
    return {
        "openssh": ["sh", "-c", f"printf '%s\\n' {' '.join(names)} | xargs -P 16 -n 1 sh {one} >/dev/null"],
        "paramiko": [sys.executable, "-I", "-c", BARE, str(told_file)],
    }


def rounds(laptop: Laptop, box: Box, folder: Path, names: list[str]) -> dict[str, list[Cost]]:
    """What each client cost, round by round in turn; ticks that had more to do than ask are left out."""
    warmed(laptop, box, len(names))
    costs: dict[str, list[Cost]] = {"openssh": [], "paramiko": [], "babysit": []}
    lines = peers(laptop, box, folder, names)
    for number in range(
        MOST_ROUNDS
    ):  # a run changes its row when it grows older, and its page is written then
        if len(costs["babysit"]) == ROUNDS:
            break
        for name, found in costs.items():
            if name == "babysit":
                cost, made = tick(laptop, box)
            else:
                cost, made = measured(lines[name], laptop.env, laptop.home), len(names)
            if number and made == len(names):  # the first warms caches
                found.append(cost)
    return costs


def quiet_ticks(laptop: Laptop, box: Box) -> None:
    """Print what a tick costs that finds nothing new: connections, sessions, bytes of the ledger."""
    ledger = laptop.state / "ledger.db"
    sizes = [sum(path.stat().st_size for path in laptop.state.glob("ledger.db*"))]
    before = box.traffic()
    for _ in range(3):
        tick(laptop, box)
        sizes.append(sum(path.stat().st_size for path in laptop.state.glob("ledger.db*")))
    after = box.traffic()
    visits = 3 * BOXES
    print(
        f"a quiet tick: {(after.connections - before.connections) / visits:.2f} connections and "
        f"{(after.sessions - before.sessions) / visits:.2f} sessions a box; "
        f"{ledger.name} and its log grew by {(sizes[-1] - sizes[0]) / 3 / BOXES:.0f} bytes a box and tick"
    )


def ticks_with_news(laptop: Laptop, box: Box, quiet: list[Cost]) -> None:
    """Print what a tick costs that finds one job killed: its page is written, and put on its box."""
    found: list[Cost] = []
    for _ in range(NEWS):
        job = max(
            pid for pid in box.pids() if command_line(pid).split() == ["sleep", "3600"]
        )  # not the small one
        os.kill(job, signal.SIGKILL)
        for _ in range(MOST_ROUNDS):  # the end is recorded a moment later
            cost, made = tick(laptop, box)
            if made == BOXES + 1:
                found.append(cost)
                break
    cpu, usual = (statistics.median(cost.cpu_s for cost in costs) for costs in (found, quiet))
    print(f"a tick with one killed job: {cpu:.2f} s CPU, a quiet one {usual:.2f} s ({len(found)} rounds)")


def main() -> None:
    """Print medians and ratios."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        box = Box.start(folder / "box", home_mb=256, sshd_options=("MaxStartups 500", "MaxSessions 200"))
        laptops = [Laptop(folder / "laptop", (box,)), Laptop(folder / "small", (box,))]
        try:
            for laptop in laptops:
                config = laptop.home / ".ssh/config"
                config.write_text(config.read_text().replace("Host gpu1", f"Host {' '.join(NAMES)}"))
            armed(laptops[1], NAMES[:1], "small")
            one = rounds(laptops[1], box, folder, NAMES[:1])
            armed(laptops[0], NAMES, "run")
            all_ = rounds(laptops[0], box, folder, NAMES)
            report(one, all_)
            quiet_ticks(laptops[0], box)
            ticks_with_news(laptops[0], box, all_["babysit"])
        finally:
            for laptop in laptops:
                laptop.close()
            box.stop()


def report(one: dict[str, list[Cost]], all_: dict[str, list[Cost]]) -> None:
    """Print each client's medians, and the ratios beside their aims."""
    load = os.getloadavg()[1]
    print(f"{len(all_['babysit'])} rounds, {os.cpu_count()} cores, load of the last 5 minutes {load:.1f}")
    rate = {name: BOXES / statistics.median(cost.took_s for cost in costs) for name, costs in all_.items()}
    cpu = {name: statistics.median(cost.cpu_s for cost in costs) for name, costs in all_.items()}
    first = {name: statistics.median(cost.cpu_s for cost in costs) for name, costs in one.items()}
    peak = {name: max(cost.peak_bytes for cost in costs) for name, costs in all_.items()}
    print("           connections/s   CPU ms a connection   start and one box   each more   peak")
    for name in all_:
        print(
            f"{name:9} {rate[name]:10.1f} {cpu[name] / BOXES * 1000:19.1f} {first[name] * 1000:17.0f} ms"
            f" {(cpu[name] - first[name]) / (BOXES - 1) * 1000:8.1f} ms {peak[name] / 1e6:4.0f} MB"
        )
    more = {name: cpu[name] - first[name] for name in cpu}
    print(f"CPU of each more connection, babysit to bare paramiko: {more['babysit'] / more['paramiko']:.2f}")
    faster, dearer = rate["babysit"] / rate["openssh"], cpu["babysit"] / cpu["paramiko"]
    print(f"connections/s, babysit to OpenSSH: {faster:.2f}   aim at least {AIM_RATE}")
    print(f"CPU a connection, babysit to bare paramiko: {dearer:.2f}   aim at most {AIM_CPU}")
    print(f"peak memory of a tick: {peak['babysit'] / 1e6:.0f} MB   aim at most {AIM_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
