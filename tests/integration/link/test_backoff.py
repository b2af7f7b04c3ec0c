"""A box that fails is asked less and less by the patrol, its runs stay what they were, and a person can force it."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

import pytest
from false_boxes import serving
from laptop import Job, Laptop
from waiting import wait_until

from fleet.ledger.away import JITTER, PAUSE_MOST_S

pytestmark = [pytest.mark.box, pytest.mark.timeout(300)]


class Turnstile:
    """A port that hangs up at once, and counts who came."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        with serving(self._turn) as port:
            yield port

    def _turn(self, connection) -> None:
        with self._lock:
            self.count += 1
        connection.shutdown(2)


@contextlib.contextmanager
def ledger_of(laptop: Laptop) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(laptop.state / "ledger.db", timeout=10)) as found, found:
        yield found


def absence(laptop: Laptop) -> tuple[int, str, float] | None:
    """How often gpu1 failed in a row, last for what, and for how many seconds it rests."""
    with ledger_of(laptop) as ledger:
        found = ledger.execute(
            "SELECT failures, cause, not_before - at FROM away WHERE box = 'gpu1'"
        ).fetchone()
    return found and (found[0], found[1], found[2])


def rest(laptop: Laptop, seconds: int) -> None:
    """What a pause of this length would have left."""
    with ledger_of(laptop) as ledger:
        ledger.execute("UPDATE away SET not_before = at + ?", (seconds,))


def told(laptop: Laptop) -> int:
    with ledger_of(laptop) as ledger:
        return ledger.execute("SELECT count(*) FROM event").fetchone()[0]


@pytest.fixture
def laptop(tmp_path, box):
    laptop = Laptop(tmp_path / "laptop", (box,))
    yield laptop
    laptop.close()


def sent_elsewhere(laptop: Laptop, port: int) -> str:
    """The alias leads to another port; returns what ssh_config was."""
    config = laptop.home / ".ssh/config"
    was = config.read_text()
    config.write_text(was.replace(f"Port {laptop.boxes[0].port}", f"Port {port}"))
    return was


def test_a_box_that_fails_is_asked_less_and_less(laptop, box):  # R13 R14
    job = Job(box)
    assert laptop.run("arm", "gpu1", "train", "--", job.waiting()).returncode == 0
    job.up()
    assert laptop.health("train") in ("starting", "running")
    gate = Turnstile()
    with gate.open() as port:
        config = sent_elsewhere(laptop, port)
        first = laptop.patrol()
        assert (first["exit_code"], first["runs"][0]["row"]) == (11, "R-LINK-3")
        assert gate.count == 1
        assert absence(laptop)[:2] == (1, "throttled")
        rest(laptop, 3600)  # however slow this machine is
        # Left alone: the same verdict, nobody asked, nothing told.
        again = laptop.patrol()
        assert gate.count == 1
        same = ("health", "row", "severity", "facts_at", "since", "next", "attempt")
        assert [again["runs"][0][key] for key in same] == [first["runs"][0][key] for key in same]
        assert again["exit_code"] == 11
        says = again["runs"][0]["evidence"][-1]["says"]
        assert says.startswith("not asked again before ") and says.endswith("(1 failure)"), says
        screen = " ".join(laptop.run("patrol", "--once").stdout.split())
        assert "not asked again before" in screen and "last seen" in screen, screen
        assert told(laptop) == 0 and gate.count == 1
        # A person who asks gets an answer.
        assert laptop.run("patrol", "--once", "--now").returncode == 11
        assert gate.count == 2 and told(laptop) == 1
        assert laptop.run("stop", "train", "--yes").returncode == 11
        assert laptop.run("resume").returncode == 11
        assert gate.count == 4
        pauses = []
        for failures in range(4, 8):
            rest(laptop, 0)
            laptop.patrol()
            count, cause, pause_s = absence(laptop)
            assert (count, cause) == (failures, "throttled")
            pauses.append(pause_s)
        assert gate.count == 8
        low, high = 1 - JITTER - 0.001, 1 + JITTER + 0.001
        for exponent, pause_s in enumerate(pauses, start=3):
            assert low <= pause_s / min(60 * 2**exponent, PAUSE_MOST_S) <= high, pauses
        (laptop.home / ".ssh/config").write_text(config)
    # It answers again: whoever asks finds out, and nothing is held against it any more.
    assert laptop.patrol()["runs"][0]["health"] == "unreachable"
    assert laptop.run("logs", "gpu1", "train").returncode == 0
    assert absence(laptop) is None
    assert laptop.health("train") == "running"
    job.release()
    wait_until(lambda: job.record("end"), 60, "the end")


def test_a_failure_that_never_left_this_machine_pauses_nobody(laptop, box):  # R13
    job = Job(box)
    assert laptop.run("arm", "gpu1", "train", "--", job.waiting()).returncode == 0
    job.up()
    laptop.patrol()
    config = laptop.home / ".ssh/config"
    was = config.read_text()
    config.write_text(was.replace("HostName 127.0.0.1", "HostName no-such-box.invalid"))
    assert laptop.health("train") == "unreachable"
    assert absence(laptop) is None
    config.write_text(was)
    assert laptop.health("train") == "running"
    job.release()
