"""Starts are counted on the box: what is proposed here follows what the box allows, grants included."""

SPEC = """
[run.{run}]
box = "gpu1"
budget = 1
[[run.{run}.stages]]
name = "train"
command = '''{command}'''
"""


def test_a_used_up_budget_is_said_and_a_grant_opens_it_for_one_start(night):
    laptop, job = night
    laptop.spec(SPEC.format(run=job.run, command=job.command("exit 3")))
    armed = laptop.run("arm", "gpu1", job.run)
    assert armed.returncode in {0, 20}, armed.said
    job.ended()

    def proposed():
        (seen,) = [run for run in laptop.patrol()["runs"] if run["run"] == job.run]
        taken = laptop.run("resume", job.run, "--json").json
        return seen["says"].rpartition(" · ")[2], seen["next"], taken["next"][0]

    logs, start = f"babysit logs gpu1 {job.run}", f"babysit resume gpu1 {job.run} --yes"
    assert proposed() == ("its one start is used", [logs], logs)
    assert laptop.run("resume", "gpu1", job.run, "--yes").returncode == 5
    assert laptop.run("resume", "gpu1", job.run, "--yes", "--grant", "2").returncode in {0, 20}
    job.ended()
    assert proposed()[1:] == ([logs, start], start), "one of two granted starts is left"
    laptop.run("resume", "gpu1", job.run, "--yes")
    job.ended()
    assert proposed() == ("all 3 starts are used", [logs], logs)
    assert "attempt 3 of 3" in laptop.run("handbook", "gpu1", job.run).stdout
    assert job.launches() == 3
