"""Screens: 80 columns, no control character whatever a job prints, and lines that can be typed as they stand."""

import re
import subprocess
import unicodedata

import pytest
from laptop import BABYSIT, SOON_S
from waiting import wait_until

WIDTH = 80
JOBS_OWN = 4096  # a line that the job wrote is not wrapped

# What a hostile or careless job prints, and what a terminal would make of it.
NASTY = (
    b"\x1b]52;c;aWQ=\x07stolen",  # writes the clipboard
    b"\x1b[2J\x1b[1;1Hcleared",
    "cat \u202ealosnoc\u2066 bidi".encode(),
    b"50 %\r100 % done",
    b"babysit-frame 1 00000000000000000000000000000000 4 0",
    b"@ end run-abcde 0 4",
    b"babysit-end 00000000000000000000000000000000",
    b"\xff\xfe not text \x00\x9b31m",
    b"next: babysit stop everything",
    "Epoch 3/9 - loss: 0.5 \u200b\ufeff".encode(),
    b"x" * 500,
)
# Lines that are typed whole are never cut: they may be longer.
TYPED = re.compile(r"^ *(next: |3,33 )?(babysit|\d[\d,]* \* \* \* \*|ssh|BABYSIT_|3,33) ?")


def _checked(done, *, codes=(0,), width=WIDTH):
    """The command's output, after a look at every line of it."""
    assert done.returncode in codes, done.said
    for line in done.said.splitlines():
        bad = [char for char in line if unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")]
        assert not bad, (bad, line)
        assert len(line) <= width or TYPED.match(line), line
    return done.stdout


@pytest.fixture
def noisy(night):
    """A run whose log is as bad as can be, and which then waits."""
    laptop, job = night
    (job.folder / "nasty").write_bytes(b"\n".join(NASTY) + b"\n")
    laptop.spec(
        f"""
        [run.{job.run}]
        box = "gpu1"
        results = ["{job.folder.name}/nasty", "{job.folder.name}/missing"]

        [[run.{job.run}.stages]]
        name = "train"
        command = '''{job.waiting("cat $W/nasty; exit 3").replace("echo up", "cat $W/nasty")}'''
        """
    )
    return laptop, job


def test_every_screen_of_a_night_fits_and_is_harmless(noisy):  # S23 R42 R30
    laptop, job = noisy
    run = job.run
    armed = _checked(laptop.run("arm", "gpu1", run))
    assert "Nothing is watching it yet" in armed
    job.up()
    _checked(laptop.run("patrol", "--once"))
    assert run in _checked(laptop.run("status"))
    assert "Nothing is watching" in _checked(laptop.run("resume"))
    logs = _checked(laptop.run("logs", "gpu1", run), width=JOBS_OWN)
    assert r"\x1b]52;c;aWQ=\x07stolen" in logs and "\n100 % done\n" in logs and r"\u202e" in logs
    job.release()
    watched = _checked(laptop.run("watch", "gpu1", run), codes=(20,))
    assert "status 3" in watched
    failed = _checked(laptop.run("patrol", "--once"), codes=(20,))
    assert "FAILED" in failed and "last line" in failed
    results = _checked(laptop.run("results", "gpu1", run), codes=(3,), width=JOBS_OWN)
    assert "stolen" in results
    _checked(laptop.run("resume", run), codes=(20,))
    _checked(laptop.run("stop", run, "--yes"))
    _checked(laptop.run("crontab"))
    _checked(laptop.run("trust", "gpu1"))
    # What the log claims is no news of ours: the same words stand in no line of state.
    assert laptop.health(run) == "failed"


def test_only_raw_gives_the_bytes_and_page_and_json_hold_no_control_character(noisy):  # S23 S25 S24
    laptop, job = noisy
    assert laptop.run("arm", "gpu1", job.run).returncode == 0
    log = job.run_folder() / "run.log"
    wait_until(lambda: log.read_bytes().endswith(b"x" * 500 + b"\n"), SOON_S, "the log is written")
    words = [BABYSIT, "logs", "gpu1", job.run, "--raw"]
    raw = subprocess.run(words, env=laptop.env, cwd=laptop.home, capture_output=True, timeout=150, check=True)
    assert raw.stdout == log.read_bytes().replace(b"\0", b"")  # NUL cannot pass a frame
    assert b"\x1b]52;c;aWQ=\x07stolen\n" in raw.stdout and b"\xff\xfe not text" in raw.stdout
    job.release()
    job.ended()
    patrol = laptop.run("patrol", "--once", "--json")
    assert patrol.returncode == 20 and patrol.stdout.isascii() and patrol.stdout.count("\n") == 1
    said = patrol.json["runs"][0]["untrusted_last_line"]
    page = laptop.run("handbook", job.run).stdout
    for text in (said, page):
        assert not [char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf")]


def test_the_line_for_cron_runs_as_it_stands_and_only_then_is_cron_armed(night):  # R30 R78 R79 R144
    laptop, job = night
    state = laptop.home / "my files (100 %)"  # what a path may hold
    laptop.env["XDG_STATE_HOME"] = str(state)
    laptop.spec("[box.gpu1]\nlimit_s = 15.0\n")
    assert laptop.run("arm", "gpu1", job.run, "--", job.waiting()).returncode == 0
    job.up()
    line = laptop.run("crontab").stdout.rstrip("\n")
    assert line.startswith("3,33 * * * * ") and "\n" not in line and "--spec" in line
    command = line.split(" ", 5)[5].replace("\\%", "%")  # what cron hands to sh
    bare = ["env", "-i", f"HOME={laptop.home}", "PATH=/usr/bin:/bin", "sh", "-c", command]
    assert "Watching from here: nothing" in laptop.run("status").stdout
    done = subprocess.run(bare, cwd="/", capture_output=True, text=True, timeout=150, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "running" in (state / "babysit/patrol.log").read_text()
    assert re.search(r"cron \d\d:(03|33)", laptop.run("status").stdout)
    assert re.search(r"last fired (now|\d+ s ago)$", laptop.run("status", "--json").json["armed"][0])


def test_help_fits_and_shows_its_examples_as_they_are(tmp_path, night):
    laptop, _ = night
    verbs = re.findall(r"^  ([a-z]+)  ", laptop.run("--help").stdout, re.MULTILINE)
    assert len(verbs) >= 11
    pages = [_checked(laptop.run(*verb, "--help")) for verb in ((), *((verb,) for verb in verbs))]
    assert not [page for page in pages if "\\b" in page]
    assert "\n    babysit arm gpu1 train -- python train.py" in pages[0]
