"""The next piece of a log, in every shell: waited for, resumed by inode and offset, bounded."""

import fcntl
import os
import threading
import time

import pytest
from small_box import SHELLS, SmallBox, small_path

from fleet.arming.follow_log import Spot, follow_log
from fleet.errors import NotFound, ProbeUnreadable

pytestmark = pytest.mark.timeout(180)
RUN_ID = "train-k3f9a"
NONCE = "0f" * 16


class Log:
    """A run's folder by hand: its log, and a chain that lives as long as its lock is held."""

    def __init__(self, box):
        self.box = box
        self.dir = box.state / "runs" / RUN_ID
        self.dir.mkdir(parents=True)
        (self.dir / "nonce").write_text(NONCE + "\n")
        plan = f"format=1\nrun=train\nrun_id={RUN_ID}\ntag={RUN_ID}-0\nlockdir=-\nstage=01-train 1 fail 1\n"
        (self.dir / "plan").write_text(plan)
        self.file = self.dir / "run.log"
        self.lock = (self.dir / "chain.lock").open("w")

    def lives(self):
        """As a chain begins: its lock first, and each file whole."""
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.put("attempt", f"nonce={NONCE}\nattempt=1\n")

    def put(self, name, text):
        (self.dir / ".new").write_text(text)
        (self.dir / ".new").replace(self.dir / name)

    def ends(self):
        fcntl.flock(self.lock, fcntl.LOCK_UN)

    def spot(self, offset):
        status = self.file.stat()
        return Spot(f"{status.st_dev}:{status.st_ino}", offset)

    def piece(self, spot=None, *, max_bytes=1000, most_behind=5000, hold_s=0):
        return follow_log(
            self.box.link(),
            state_dir=None,
            run_id=RUN_ID,
            spot=spot,
            max_bytes=max_bytes,
            most_behind=most_behind,
            hold_s=hold_s,
            limit_s=90,
        )


@pytest.fixture(params=SHELLS)
def log(request, tmp_path):
    box = SmallBox(tmp_path / "box", small_path(tmp_path / "tools", shell=request.param))
    log = Log(box)
    yield log
    log.lock.close()


def test_pieces_follow_on_and_say_where_they_do_not(log):  # S22
    log.lives()
    log.file.write_bytes(b"0123456789" * 200)
    first = log.piece()
    assert (first.over, first.start, first.size, first.spot) == (False, 1000, 2000, log.spot(2000))
    assert first.data == b"0123456789" * 100 and not first.more
    with log.file.open("ab") as file:
        file.write(b"a\0\xff\n" * 400)
    second = log.piece(first.spot)
    assert (second.start, second.spot, second.more) == (2000, log.spot(3000), True)
    assert second.data == b"a\xff\n" * 250
    third = log.piece(second.spot)
    assert third.data == b"a\xff\n" * 150 and not third.more
    with log.file.open("ab") as file:
        file.write(b"x" * 9000)
    behind = log.piece(third.spot)
    assert (behind.start, behind.spot.offset, behind.size) == (11600, 12600, 12600)
    os.truncate(log.file, 5)
    cut = log.piece(behind.spot)
    assert (cut.start, cut.data, cut.spot) == (0, b"01234", log.spot(5))
    (log.dir / "fresh").write_bytes(b"another log")
    (log.dir / "fresh").replace(log.file)
    other = log.piece(cut.spot)
    assert (other.start, other.data, other.spot) == (0, b"another log", log.spot(11))
    assert other.spot.file_id != cut.spot.file_id


def test_what_comes_and_the_end_are_waited_for_on_the_box(log):  # R93
    waits = Waiting(log, None)
    log.lives()
    log.put("run.log", "first\n")
    piece = waits.over()  # before the first attempt a free lock is no end
    assert (piece.over, piece.data) == (False, b"first\n")
    waits = Waiting(log, piece.spot)
    with log.file.open("ab") as file:
        file.write(b"second\n")
    piece = waits.over()
    assert (piece.over, piece.data) == (False, b"second\n")
    waits = Waiting(log, piece.spot)
    log.ends()
    piece = waits.over()
    assert (piece.over, piece.data) == (True, b"")
    assert log.piece(Spot(piece.spot.file_id, 0)).over


class Waiting:
    """A visit that the box holds, for far longer than any test waits."""

    def __init__(self, log, spot):
        self.found = []
        self.began = time.monotonic()
        self.thread = threading.Thread(target=lambda: self.found.append(log.piece(spot, hold_s=50)))
        self.thread.start()

    def over(self):
        self.thread.join(100)
        assert self.found, "the visit has not come back"
        assert time.monotonic() - self.began < 45, "it was held to the end of its hold"
        return self.found[0]


def test_a_hold_ends_with_nothing_new_and_a_log_that_is_none_is_refused(log):
    log.lives()
    none = log.piece(hold_s=1)
    assert (none.over, none.spot, none.data) == (False, None, b"")
    log.file.write_bytes(b"x")
    same = log.piece(log.spot(1), hold_s=1)
    assert (same.over, same.data, same.spot) == (False, b"", log.spot(1))
    log.file.unlink()
    log.file.symlink_to("/etc/passwd")
    with pytest.raises(ProbeUnreadable, match="no plain file"):
        log.piece()
    (log.dir / "plan").unlink()
    with pytest.raises(ProbeUnreadable, match="plan"):
        log.piece()
    log.dir.rename(log.dir.with_name("elsewhere"))
    with pytest.raises(NotFound):
        log.piece()
