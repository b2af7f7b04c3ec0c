"""`arm` of what is there already: live, finished, changed, superseded, disarmed, rehearsed. And clearing up after it."""

import os
import time

from laptop import SOON_S, Laptop, files
from older_runs import give_to, lay_out
from waiting import wait_until


def arm(laptop, job, command, *options):
    return laptop.run("arm", "gpu1", job.run, *options, "--", command)


def contents(top):
    """Every path below `top`: what is in it, and when it was changed last."""
    return {
        path.relative_to(top): (seen.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path, seen in files(top)
    }


def test_a_live_run_armed_again_says_its_facts_and_a_newer_one_must_wait_for_its_end(night):  # R76 R89 P1
    laptop, job = night
    command = job.waiting()
    assert arm(laptop, job, command).returncode == 0
    job.up()
    same = laptop.run("arm", "gpu1", job.run, "--json")  # it was armed from here: no command is needed
    assert same.returncode == 0 and same.json["started"] is False and same.json["health"] == "running", (
        same.said
    )
    other = arm(laptop, job, job.waiting("echo other"))
    assert other.returncode == 2, other.said
    shown = other.stderr.splitlines()
    assert any(line.startswith("    - ") and "echo up" in line for line in shown), other.stderr
    assert any(line.startswith("    + ") and "echo other" in line for line in shown)
    assert f"next: babysit arm gpu1 {job.run} --again -- " in other.stderr
    newer = arm(laptop, job, job.waiting("echo other"), "--again")
    assert newer.returncode == 10 and f"next: babysit stop gpu1 {job.run}" in newer.stderr, newer.said
    assert job.launches() == 1
    assert laptop.run("stop", job.run, "--yes").returncode == 0
    job.release()
    newer = arm(laptop, job, job.waiting("echo other"), "--again", "--json")
    assert newer.returncode == 0 and newer.json["started"] is True, newer.said
    job.up(2)
    assert [run["id"] for run in laptop.patrol()["runs"]] == [newer.json["id"]]
    # The first command again: its run has lost the name, and that is said with what is there now.
    lost = arm(laptop, job, command)
    assert lost.returncode == 21 and newer.json["id"] in lost.stderr and "echo other" in lost.stderr, (
        lost.said
    )
    assert job.launches() == 2


def test_who_was_superseded_from_another_laptop_is_told_and_follows(tmp_path, night, shared):  # R76
    laptop, job = night
    command = job.command("true")
    assert arm(laptop, job, command).returncode == 0
    wait_until(lambda: laptop.health(job.run) == "finished", SOON_S, "its end")
    other = Laptop(tmp_path / "other", (shared,))
    newer = other.run("arm", "gpu1", job.run, "--again", "--json", "--", job.waiting("echo newer"))
    assert newer.returncode == 0, newer.said
    job.up(2)
    lost = arm(laptop, job, command, "--json")
    assert lost.returncode == 21 and lost.json["code"] == "BS-SUPERSEDED", lost.said
    assert any("echo newer" in line for line in lost.json["untrusted_lines"])
    assert "echo newer" not in str({**lost.json, "untrusted_lines": None})  # the box's words only there
    assert [run["id"] for run in laptop.patrol()["runs"]] == [newer.json["id"]]
    followed = arm(laptop, job, job.waiting("echo newer"), "--json")
    assert (followed.returncode, followed.json["id"], followed.json["started"]) == (
        0,
        newer.json["id"],
        False,
    )
    assert job.launches() == 2


def test_a_disarmed_run_armed_again_is_watched_again_and_not_started(night):  # P1
    laptop, job = night
    command = job.waiting()
    assert arm(laptop, job, command).returncode == 0
    job.up()
    gone = laptop.run("disarm", job.run, "--yes")
    assert gone.returncode == 0, gone.said
    assert laptop.patrol()["runs"] == []
    again = arm(laptop, job, command, "--json")
    assert again.returncode == 0 and again.json["started"] is False, again.said
    assert [run["health"] for run in laptop.patrol()["runs"]] == ["running"]
    assert job.launches() == 1


def test_a_disarmed_run_is_superseded_like_any_other(night):
    laptop, job = night
    assert arm(laptop, job, job.command("true")).returncode == 0
    wait_until(lambda: laptop.health(job.run) == "finished", SOON_S, "its end")
    assert laptop.run("disarm", job.run, "--yes").returncode == 0
    newer = arm(laptop, job, job.command("echo other"), "--again", "--json")
    assert newer.returncode == 0, newer.said
    # Found by its name it is the newer one: the older, disarmed, does not stand beside it.
    assert newer.json["id"] in laptop.run("handbook", job.run).stdout
    assert [run["id"] for run in laptop.patrol()["runs"]] == [newer.json["id"]]


def test_a_rehearsal_shows_every_byte_and_writes_nothing_anywhere(laptop, job, box):  # R69 S9
    (laptop.home / "babysit.toml").write_text(
        f'[run.train]\nbox = "gpu1"\ncwd = "job"\n[[run.train.stages]]\nname = "prep"\ncommand = "true"\n'
        f"[[run.train.stages]]\nname = \"train\"\ncommand = '''{job.command('echo done')}'''\n"
    )
    before, at_home = contents(box.home), contents(laptop.home)
    dry = laptop.run("arm", "gpu1", "train", "--dry-run", "--json")
    assert dry.returncode == 0, dry.said
    assert contents(box.home) == before and contents(laptop.home) == at_home
    shown = dry.json["untrusted_files"]
    assert shown["stages/02-train.sh"] == job.command("echo done") + "\n"
    assert dry.json["remote_command"].startswith("exec sh -c ")
    said = laptop.run("arm", "gpu1", "train", "--dry-run").stdout
    assert (
        "==> stages/02-train.sh <==" in said and job.command("echo done") in said and "==> plan <==" in said
    )
    assert contents(box.home) == before and contents(laptop.home) == at_home
    # What was shown is what is placed, but for what is drawn anew: id, nonce and what is made of them.
    assert laptop.run("arm", "gpu1", "train").returncode == 0
    job.ended()
    folder = job.run_folder()
    placed = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {path for path in shown if not path.startswith("chain-")} <= placed
    chain = next(path for path in shown if path.startswith("chain-"))
    assert shown[chain].replace(dry.json["id"], folder.name) == next(folder.glob("chain-*.sh")).read_text()
    for path in ("spec.json", "budget", "stages/01-prep.sh", "stages/02-train.sh"):
        assert shown[path] == (folder / path).read_text()
    nonce = (folder / "nonce").read_text().strip()
    assert nonce not in dry.stdout and len(shown["nonce"]) != 33
    again = laptop.run("arm", "gpu1", "train", "--dry-run")
    assert again.returncode == 0 and f"{folder.name} has the name" in again.stdout, again.said
    assert job.launches() == 1


def test_old_tools_and_old_runs_are_listed_with_sizes_and_go_with_a_yes(laptop, job, box):
    assert arm(laptop, job, job.command("true")).returncode == 0
    job.ended()
    folder = job.run_folder()
    share = box.home / ".local/share/babysit"
    stale = share / "onbox-0123456789ab.pyz"
    stale.write_bytes(b"x" * 2000)
    os.chown(stale, folder.stat().st_uid, folder.stat().st_gid)
    long_ago = time.time() - 40 * 86400
    for path in (stale, folder / "end", *share.glob("onbox-*")):
        os.utime(path, (long_ago, long_ago))
    listed = laptop.run("gc", "gpu1")
    assert (
        listed.returncode == 0 and "2 kB" in listed.stdout and "next: babysit gc gpu1 --yes" in listed.stdout
    )
    assert stale.exists()
    gone = laptop.run("gc", "gpu1", "--yes", "--json").json
    assert [(thing["kind"], thing["untrusted_name"]) for thing in gone["things"]] == [("tool", stale.name)]
    assert not stale.exists() and folder.exists() and len(list(share.glob("onbox-*"))) == 1
    wait_until(
        lambda: laptop.run("gc", "gpu1", "--finished", "--yes").stdout.startswith("gpu1: 2 things removed"),
        SOON_S,
        "the run",
    )
    assert not folder.exists() and not list(share.glob("onbox-*"))
    assert laptop.patrol()["exit_code"] == 0  # what has finished is not asked for any more
    assert arm(laptop, job, job.command("true"), "--json").json["started"] is True


def test_a_run_of_an_older_babysit_is_adopted_and_carried_on(laptop, box):  # P1 R99
    lay_out(box.home)
    give_to(box.home, 1000, 1000)
    (box.home / "job/failed/go").touch()
    at = ("--at", f"dev@127.0.0.1:{box.port}", "--identity", str(box.key), "--fingerprint", box.fingerprint)
    first = laptop.run("resume", "failed", *at)
    assert first.returncode == 20 and "attempt 2 of 5" in " ".join(first.stdout.split()), first.said
    assert "what the last attempt ran was not written down" in " ".join(first.stdout.split())
    carried = laptop.run("resume", "failed", "--yes")
    assert carried.returncode == 0, carried.said
    assert laptop.run("watch", "gpu1", "failed").returncode == 0
    assert (box.home / "job/failed/steps").read_text().split() == ["train", "eval"]
    # From now on its code is written down with it, and an older babysit passes the file over.
    assert (box.home / ".local/state/babysit/runs/failed-m2x7q/code.json").is_file()
    newer = box.home / ".local/state/babysit/runs/gone-p9bev/plan"
    newer.write_text(newer.read_text().replace("format=1", "format=7"))
    refused = laptop.run("resume", "gone", *at)
    assert refused.returncode == 12 and "armed by a newer babysit" in refused.stderr, refused.said
