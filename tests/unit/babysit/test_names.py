"""What was typed becomes a box and a job, or an error that names the nearest thing that exists."""

import time

import pytest
from ledger_samples import a_run

from babysit.acts import armed
from babysit.acts.adopt import box_at
from babysit.acts.arm import STEPS, digest_of
from babysit.acts.here import Here, box_named, here_anyway, job_named, run_named
from fleet.errors import NotFound, UsageError
from fleet.ledger.ledger import Ledger
from fleet.model.spec import RunSpec, Stage
from fleet.spec.decode import decode

SPEC = """
[box.gpu1]
host = "203.0.113.7"

[run.train]
box = "gpu1"
stages = [{name = "train", command = "python train.py"}]
"""


@pytest.fixture
def place(tmp_path):
    return Here(tmp_path / "state", decode(SPEC, "babysit.toml"))


@pytest.fixture
def ledger(place):
    with place.ledger() as opened:
        yield opened


def test_a_box_is_of_the_spec_else_of_the_ledger_else_an_alias(place, ledger):
    assert box_named(place, ledger, "gpu1").host == "203.0.113.7"
    ledger.boxes.put(box_at("dev@198.51.100.4:2201", name="gpu2", identity=None, state_dir=None))
    assert box_named(place, ledger, "gpu2").port == 2201
    assert box_named(place, ledger, "gpu3").host == "gpu3"


@pytest.mark.parametrize("name", [";id", "$(id)", "-oProxyCommand=x", "../x", "a b", "", "a\x1b[2J"])
def test_a_name_that_is_none_is_refused_for_boxes_and_runs(name, place, ledger):  # S16
    with pytest.raises(UsageError):
        box_named(place, ledger, name)
    with pytest.raises(UsageError):
        job_named(place, name, "gpu1", ("true",))


def test_a_slip_is_answered_with_the_line_and_the_command(place):
    with pytest.raises(NotFound) as caught:
        job_named(place, "trian", "gpu1", ())
    assert "line 5" in caught.value.what and caught.value.next == ("babysit arm gpu1 train",)


def test_a_run_of_another_box_is_refused_with_the_right_one(place):
    with pytest.raises(UsageError) as caught:
        job_named(place, "train", "gpu2", ())
    assert caught.value.next == ("babysit arm gpu1 train",)


def test_a_command_beside_a_described_run_is_refused(place):
    with pytest.raises(UsageError, match="would replace them"):
        job_named(place, "train", "gpu1", ("python other.py",))


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("cd x && python t.py | tee out",), "cd x && python t.py | tee out"),
        (("python", "t.py", "--name", "it's"), """python t.py --name 'it'"'"'s'"""),
        (("echo", "$(id)", "*"), "echo '$(id)' '*'"),
    ],
)
def test_one_word_is_a_shell_line_and_several_stay_these_words(words, command, place):  # S18
    assert job_named(place, "quick", "gpu1", words).stages[0].command == command


def test_a_run_that_was_never_armed_names_what_was(ledger):
    ledger.runs.put(a_run())
    with pytest.raises(NotFound) as caught:
        run_named(ledger, "trian")
    # What stands in `next` is typed as it stands.
    assert caught.value.next == ("babysit status",)
    assert caught.value.hint == "armed: train (did you mean train?)"


@pytest.mark.parametrize(
    ("at", "user", "host", "port"),
    [
        ("dev@198.51.100.4:2201", "dev", "198.51.100.4", 2201),
        ("gpu1", None, "gpu1", None),
        ("root@[2001:db8::1]:22", "root", "2001:db8::1", 22),
        ("me@corp.example@gpu1", "me@corp.example", "gpu1", None),  # a login of a directory service
    ],
)
def test_an_address_is_read(at, user, host, port):
    box = box_at(at, name="x", identity=None, state_dir=None)
    assert (box.user, box.host, box.port) == (user, host, port)


@pytest.mark.parametrize(
    "at", ["", "-oProxyCommand=x", "a b", "dev@", "h:99999", "h:0", "a@b@", "$(id)", "h;id", "h:2 2"]
)
def test_what_is_no_address_is_refused(at):  # S21
    with pytest.raises(UsageError):
        box_at(at, name="x", identity=None, state_dir=None)


def test_a_job_is_the_same_when_its_stages_and_folder_are(place):
    job = place.spec.runs["train"]
    changed = RunSpec("train", job.stages, box="gpu1", stall_after_s=7, budget=9)
    assert digest_of(job) == digest_of(changed)
    assert digest_of(job) != digest_of(RunSpec("train", (Stage("train", "python train.py "),)))
    assert digest_of(job) != digest_of(RunSpec("train", job.stages, cwd="elsewhere"))
    assert len(set(STEPS)) == len(STEPS) == 9


def test_a_broken_spec_is_kept_as_data(tmp_path):
    (tmp_path / "babysit.toml").write_text("[run.x]\n")
    place = here_anyway()
    assert place.broken is not None and "stages: missing" in place.broken.problems[0]
    assert place.spec.path is None


@pytest.mark.parametrize(
    ("clock", "fires"), [("10:00", "10:03"), ("10:03", "10:33"), ("10:40", "11:03"), ("23:50", "00:03")]
)
def test_cron_fires_at_the_next_of_its_minutes(clock, fires):  # R78
    hour, minute = map(int, clock.split(":"))
    at = time.mktime((2026, 11, 22, hour, minute, 30, 0, 0, -1))
    assert armed.next_cron(at) == fires


def test_only_what_was_seen_to_fire_lately_is_armed(tmp_path):  # R30
    from ledger_samples import NOON, a_tick

    with Ledger.open(tmp_path / "state", write=True) as ledger:
        assert armed.triggers(ledger, NOON) == ()
        ledger.ticks.commit(a_tick(at=NOON, origin="hand"))
        assert armed.triggers(ledger, NOON) == ()
        ledger.ticks.commit(a_tick(at=NOON, origin="cron"))
        assert [fire.says.split()[0] for fire in armed.triggers(ledger, NOON + 1320)] == ["cron"]
        assert armed.triggers(ledger, NOON + 7200) == ()


def test_who_waits_for_one_run_watches_no_other():  # R30
    cron = armed.Trigger("cron 03:33, last fired 1 min ago", "not while this machine is off")
    watch = armed.Trigger("watch of eval-k3f9, pid 71", "ends with its terminal", "eval-k3f9")
    assert (
        armed.phrases((cron, watch)) == armed.phrases((cron, watch), "eval-k3f9") == (cron.says, watch.says)
    )
    assert armed.phrases((cron, watch), "eval-k3f9x") == (cron.says,)


@pytest.mark.parametrize(
    ("gap_s", "count"), [(1800, 0), (2400, 0), (3600, 1), (8 * 3600, 15), (8 * 86400, 0)]
)
def test_missed_firings_of_cron_are_counted_until_it_is_forgotten(gap_s, count, tmp_path):  # P7
    from ledger_samples import NOON, a_tick

    with Ledger.open(tmp_path / "state", write=True) as ledger:
        assert armed.missed(ledger, NOON) == 0
        ledger.ticks.commit(a_tick(at=NOON, origin="cron"))
        ledger.ticks.commit(a_tick(at=NOON + gap_s - 60, origin="watch"))
        assert armed.missed(ledger, NOON + gap_s) == count
