"""What ssh says of a box's name is asked once, not at every tick, and again whenever it may be another."""

import json
import stat

import pytest

pytestmark = pytest.mark.box


def test_a_tick_repeats_what_ssh_said_until_it_may_be_otherwise(night):  # R26 S36
    laptop, job = night
    kept = laptop.state / "ssh-config.json"
    config = laptop.home / ".ssh/config"

    def forge() -> None:
        """Who believes this finds nothing at the port."""
        content = json.loads(kept.read_text())
        for answer in content["told"]["gpu1"].values():
            answer["port"] = ["1"]
        kept.write_text(json.dumps(content))

    def health() -> str:
        return laptop.run("patrol", "--once", "--now", "--json").json["runs"][0]["health"]

    assert laptop.run("arm", "gpu1", job.run, "--", job.waiting()).returncode == 0
    job.up()
    assert not kept.exists()  # only a patrol remembers
    assert health() in ("starting", "running")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    forge()
    armed = laptop.run("arm", "gpu1", f"{job.run}-too", "--", "true")
    assert armed.returncode == 0, armed.said  # asks ssh
    forge()
    assert health() == "unreachable"  # repeats
    assert health() in ("starting", "running")  # a box that did not answer is asked about again

    forge()
    config.write_text(f"{config.read_text()}\n# a remark\n")
    assert health() in ("starting", "running")
    job.release()
