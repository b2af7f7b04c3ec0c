"""Whom we speak to: the boxes, and the receivers that were named. Nobody else, whatever we do."""

import re
import subprocess

from laptop import BABYSIT
from receiver import receiver

CONNECT = re.compile(r"connect\(\d+, \{sa_family=AF_(INET6?|UNIX|NETLINK), (.*?)\}, ")


def spoken_to(laptop, tmp_path, *words: str) -> set[str]:
    """Every address that the command and its children connected to, of the network and of sockets in files."""
    trace = tmp_path / "trace"
    subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=connect,sendto",
            "-e",
            "signal=none",
            "-o",
            trace,
            BABYSIT,
            *words,
        ],
        env=laptop.env,
        cwd=laptop.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=150,
        check=False,
    )
    return {f"{family} {place}" for family, place in CONNECT.findall(trace.read_text())}


def test_a_tick_with_a_notice_speaks_to_the_box_and_the_receiver_alone(tmp_path, night):  # S43
    laptop, job = night
    with receiver() as hook:
        laptop.env["HOOK_URL"] = hook.url()
        laptop.spec('[box.gpu1]\nhost = "gpu1"\nlimit_s = 60.0\n[notify.hook]\nurl = "env:HOOK_URL"\n')
        assert laptop.run("arm", "gpu1", job.run, "--", job.waiting("exit 3")).returncode == 0
        job.release()
        job.ended()
        spoken = spoken_to(laptop, tmp_path, "patrol", "--once")
        assert hook.hits, "strace follows the courier to its end"
        box, told = f"sin_port=htons({job.box.port})", f"sin_port=htons({hook.port})"
    network = {place for place in spoken if place.startswith(("INET ", "INET6 "))}
    assert [place for place in network if box in place] and [place for place in network if told in place]
    # A socket that asks the resolver or finds its own address has no business in a tick over numbers.
    assert not [place for place in network if box not in place and told not in place]
    assert not spoken_to(laptop, tmp_path, "status") and not spoken_to(laptop, tmp_path, "--help")
