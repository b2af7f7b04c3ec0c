import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from onbox.monitor.sink import LineFile, ListFile, Sink, TableFile, file_of

HEAD = b'{"kind":"metadata","pid":1}\n'
ROOT = Path(__file__).parents[3]
END = b'{"kind":"exit","ts_ms":9}\n'


def tree(n, more=""):
    return (
        b'{"kind":"tree","ts_ms":%d,"parent":null,"children":[],"aggregated":{"ts_ms":%d,"mem_rss_kb":5%s}}\n'
        % (n, n, more.encode())
    )


def child(n):
    return b'{"kind":"child","ts_ms":%d,"pid":%d}\n' % (n, n)


def test_memory_holds_samples_and_the_newest_children_and_nothing_where_none_is_wanted():
    sink = Sink(memory=True)
    sink.take([HEAD, tree(1)])
    sink.take([child(n) for n in range(1500)])
    sink.take([END])
    assert [json.loads(text)["ts_ms"] for text in sink.samples] == [1]
    assert len(sink.children) == 1000 and json.loads(sink.children[-1])["pid"] == 1499
    assert sink.metadata == HEAD
    other = Sink()
    other.take([HEAD, tree(1)])
    assert other.samples == [] and other.errors() == []


def test_a_file_is_begun_anew_and_is_ours_alone(tmp_path):
    path = tmp_path / "u"
    path.write_text("older")
    path.chmod(0o666)
    file = LineFile(path)
    file.take([HEAD, tree(1)])
    assert path.read_bytes() == HEAD + tree(1), "a line is there as soon as it was taken"
    file.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_list_is_json_with_nothing_one_or_more_in_it(tmp_path):
    for lines in ([], [HEAD], [HEAD, tree(1), END]):
        file = ListFile(tmp_path / "u")
        for line in lines:
            file.take([line])
        file.close()
        assert json.loads((tmp_path / "u").read_text()) == [json.loads(line) for line in lines]


def test_a_list_whose_beginning_could_not_be_written_is_json_all_the_same(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = ListFile(tmp_path / "u")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5, before[1]))
        file.take([HEAD])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.take([tree(1)])
    file.close()
    assert [record["ts_ms"] for record in json.loads((tmp_path / "u").read_text())] == [1]


def test_a_table_has_a_row_a_sample_and_nothing_where_nothing_is_known(tmp_path):
    file = TableFile(tmp_path / "u")
    file.take([HEAD, tree(1)])
    file.take([child(1), tree(2, ',"cgroup_limit_kb":null'), END])
    file.close()
    head, *rows = (tmp_path / "u").read_text().splitlines()
    names = head.split(",")
    assert [dict(zip(names, row.split(","), strict=True))["ts_ms"] for row in rows] == ["1", "2"]
    assert dict(zip(names, rows[0].split(","), strict=True))["cgroup_limit_kb"] == ""


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_what_cannot_be_written_is_counted_and_raised_to_nobody(form):
    file = file_of("/dev/full", form)
    for n in range(3):
        file.take([tree(n)])
    file.close()
    (error,) = file.errors()
    assert error == "cannot write /dev/full: No space left on device (3 lines lost)"


def test_a_file_at_its_cap_is_halved_again_and_again_and_keeps_its_head(tmp_path):
    path = tmp_path / "u"
    file = LineFile(path, cap_bytes=4000)
    file.take([HEAD])
    for n in range(500):
        file.take([child(n), tree(n)])
        assert path.stat().st_size <= 4000
    file.take([END])
    file.close()
    lines = path.read_bytes().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    assert lines[0] == HEAD and lines[-1] == END and file.thinned > 3 and file.errors() == []
    at = [record["ts_ms"] for record in records[1:-1] if record["kind"] == "tree"]
    assert at == sorted(at) and at[0] == 0 and at[-1] == 499
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["u"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_halved_stays_below_its_cap(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    file = LineFile(folder / "u", cap_bytes=1000)
    held = os.open(folder / "u", os.O_RDONLY)
    (folder / "u").unlink()
    folder.rmdir()
    for n in range(300):
        file.take([tree(n)])
    assert 0 < os.fstat(held).st_size <= 1000
    os.close(held)
    file.close()
    assert any("at its limit of 1000 bytes" in error for error in file.errors())


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_what_came_through_before_the_disk_was_full_is_whole(tmp_path, form):
    lines = [HEAD, *(tree(n) for n in range(40)), END]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = file_of(tmp_path / "u", form)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
        file.take(lines[:3])
        for line in lines[3:20]:
            file.take([line])
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        for line in lines[20:]:
            file.take([line])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.close()
    text = (tmp_path / "u").read_text()
    assert "File too large" in file.errors()[0]
    if form == "csv":
        rows = [row.split(",") for row in text.splitlines()]
        assert len({len(row) for row in rows}) == 1
        found = [int(row[0]) for row in rows[1:]]
    else:
        records = json.loads(text) if form == "json" else [json.loads(line) for line in text.splitlines()]
        found = [record["ts_ms"] for record in records if record["kind"] == "tree"]
    assert found[:3] == [0, 1, 2] and found[-1] == 39 and found == sorted(found) and len(found) < 40


NUMBER_0 = """
import os, resource, sys
from onbox.monitor.sink import LineFile
os.close(0)
file = LineFile("lines")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
file.take([b'{"n":1}\\n'])
file.take([b'{"n":2}\\n'])
print(file.errors())
"""


def test_half_a_line_is_cut_off_whatever_number_the_file_has(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", NUMBER_0],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large" in done.stdout
    assert (tmp_path / "lines").read_bytes() == b'{"n":1}\n'
