"""A night over the system's own ssh program, with a box that only a certificate authority vouches for."""

import subprocess

import pytest
from laptop import SOON_S, Laptop
from waiting import wait_until

pytestmark = pytest.mark.box


@pytest.fixture
def signed(tmp_path, box):
    """The box with a signed host key, and a laptop that knows nothing but the authority."""
    authority = tmp_path / "authority"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority], check=True)
    words = ["ssh-keygen", "-q", "-s", authority, "-I", "gpu1", "-h", "-n", "127.0.0.1"]
    subprocess.run([*words, box.folder / "host_key_ed25519.pub"], check=True, capture_output=True)
    box.drop_sshd()
    config = box.folder / "sshd_config"
    config.write_text(config.read_text() + "HostCertificate /run/box/host_key_ed25519-cert.pub\n")
    box.raise_sshd()
    laptop = Laptop(tmp_path / "laptop", (box,), known=False)
    known = tmp_path / "known_hosts"
    known.write_text(f"@cert-authority * {authority.with_name('authority.pub').read_text()}")
    with (laptop.home / ".ssh/config").open("a") as file:
        file.write(f"  UserKnownHostsFile {known}\n")
    yield laptop
    laptop.close()


def test_arm_patrol_logs_and_stop_over_the_ssh_program(signed, box, job):  # S4 R24
    refused = signed.run("arm", "gpu1", "train", "--", job.waiting())
    assert refused.returncode == 4, refused.said
    assert "certificate authority" in refused.stderr
    assert 'link = "ssh" in [box.gpu1]' in refused.stderr
    assert not (box.home / ".local").exists()

    signed.spec('[box.gpu1]\nlink = "ssh"\n')
    armed = signed.run("arm", "gpu1", "train", "--", job.waiting())
    assert armed.returncode == 0, armed.said
    job.up()
    assert (
        signed.health("train") == "running"
    )  # a look with news puts the page on the box by one more connection
    wait_until(lambda: not box.session_pids(), SOON_S, "arming and the first look have left the box")
    before = box.traffic()
    assert signed.health("train") == "running"
    wait_until(lambda: not box.session_pids(), SOON_S, "the look has left the box")
    assert [b - a for a, b in zip(before, box.traffic(), strict=True)] == [
        1,
        1,
        2,
        1,
    ]  # one look, one session
    assert "up" in signed.run("logs", "gpu1", "train").stdout
    assert signed.run("stop", "train", "--yes").returncode == 0
    assert signed.health("train") == "stopped"
    assert job.launches() == 1
