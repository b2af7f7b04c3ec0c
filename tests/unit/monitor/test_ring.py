import os
import threading

from waiting import wait_until

from onbox.monitor.ring import Ring, Text, feed


def pipe():
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb", 0), writing


def test_what_lies_in_the_pipe_is_not_missing():
    source, writing = pipe()
    ring = Ring(source, None)
    for n in range(1, 300):
        os.write(writing, b"x")
        assert len(ring.kept(Text())) == n
    os.close(writing)
    wait_until(lambda: source.closed, 45, "its thread to see the end")
    assert len(ring.kept(Text())) == 299


def test_only_the_end_of_much_is_kept():
    source, writing = pipe()
    ring = Ring(source, 10)
    for n in range(2000):
        os.write(writing, b"%05d" % n)
        assert len(ring._kept) <= 65536 + 20
    assert ring.kept(Text()) == b"0199801999"
    assert ring.kept(Text(encoding="ascii")) == "0199801999"
    os.close(writing)
    wait_until(lambda: source.closed, 45, "its thread to see the end")


def test_whoever_prints_for_ever_is_read_and_not_waited_for():
    source, writing = pipe()
    over = threading.Event()

    def print_on():
        while not over.is_set():
            os.write(writing, bytes(4096))
        os.close(writing)

    thread = threading.Thread(target=print_on)
    thread.start()
    ring = Ring(source, 1000)
    assert len(ring.kept(Text())) <= 1000
    over.set()
    thread.join(20)
    wait_until(lambda: source.closed, 45, "its thread to see the end")


def test_a_reader_that_leaves_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "wb", 0)
    feed(stream, bytes(1 << 20))
    wait_until(lambda: stream.closed, 45, "the feeding thread to give up")
