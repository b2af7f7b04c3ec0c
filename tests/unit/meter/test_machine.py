"""Figures of the machine, from texts as kernels write them."""

import pytest

from onbox.meter.files import Files
from onbox.meter.machine import Machine, kind_at, lscpu, net_of, psi_of, ranges

NET = b"""Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0
  eth0: 100 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0
wg0:5 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0
"""
MOUNTS = b"""1 0 8:1 / / rw - ext4 /dev/a rw
2 1 0:9 / /data rw shared:1 - fuse.mfs x rw
3 1 0:9 / /data/local\\040disk rw - xfs /dev/b rw
torn
"""


def test_every_interface_but_the_loopback():
    assert net_of(NET) == (105, 10)
    assert net_of(b"") == net_of(b"x: y\n") == (0, 0)


def test_a_machine_of_very_many_interfaces_is_read_whole(tmp_path):
    row = "veth%04d: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    told = tmp_path / "1" / "net" / "dev"
    told.parent.mkdir(parents=True)
    many = "".join(row % number for number in range(2000))
    told.write_text(many + "  eth0: 100 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n")
    files = Files()
    machine = Machine(1, files, str(tmp_path))
    told.write_text(many + "  eth0: 150 1 0 0 0 0 0 0 17 1 0 0 0 0 0 0\n")
    machine.look(1.0)
    assert machine.net() == (50, 10)
    files.close()


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (
            b"some avg10=1.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=0\n",
            {"some_avg10": 1.5, "full_avg10": 0.25},
        ),
        (b"some avg10=1.50 avg60=0\n", None),
        (b"some avg10=x\nfull avg10=1\n", None),
        (b"", None),
    ],
)
def test_pressure(raw, found):
    assert psi_of(raw) == found


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/root", "ext4"),
        (b"/", "ext4"),
        (b"/data", "fuse.mfs"),
        (b"/data/x/y", "fuse.mfs"),
        (b"/datashop", "ext4"),
        (b"/data/local disk/x", "xfs"),
    ],
)
def test_what_a_folder_lies_on(path, kind):
    assert kind_at(path, MOUNTS) == kind


def test_processors():
    block = "processor\t: {}\nmodel name\t: Fast One\nphysical id\t: {}\ncore id\t\t: {}\n"
    text = "\n".join(block.format(number, number // 4, number % 2) for number in range(8))
    assert lscpu(text) == {"sockets": 2, "cores_per_socket": 2, "threads_per_core": 2, "model": "Fast One"}
    arm = "processor\t: 0\nBogoMIPS\t: 50\n\nprocessor\t: 1\nBogoMIPS\t: 50\n"
    assert lscpu(arm) == {"sockets": 1, "cores_per_socket": 2, "threads_per_core": 1, "model": ""}
    assert lscpu("")["sockets"] == 1


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 7], "0-2,7"), ([1, 3], "1,3")]
)
def test_ranges(numbers, text):
    assert ranges(numbers) == text
