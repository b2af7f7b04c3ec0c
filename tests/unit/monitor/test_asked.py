import os
import subprocess
from pathlib import Path

import pytest

from onbox.monitor import asked
from onbox.monitor.command import Line, read
from onbox.monitor.ring import KEPT_BYTES, Text


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("cmd", "words"),
    [
        ("echo 'a  b' \"c d\" e\\ f", ["echo", "a  b", "c d", "e f"]),
        (["echo", "a b"], ["echo", "a b"]),
        (("true",), ["true"]),
        (b"echo x", ["echo", "x"]),
    ],
)
def test_a_string_is_split_as_a_shell_splits_it(cmd, words):
    assert asked.ask(cmd, "m").words == words == asked.ask(cmd, "m").shown


def test_a_shell_is_given_its_string_whole():
    wanted = asked.ask("echo 'a", "m", shell=True)  # noqa: S604 - it starts nothing
    assert (wanted.words, wanted.shown) == ("echo 'a", ["/bin/sh", "-c", "echo 'a"])


def test_streams_go_where_they_were_sent_and_to_us_where_not():
    assert asked.ask("true", "m").rings == {"stdout": KEPT_BYTES, "stderr": KEPT_BYTES}
    assert asked.ask("true", "m", stdout=None).rings == {"stderr": KEPT_BYTES}
    assert asked.ask("true", "m", stdout=subprocess.PIPE).rings == {"stdout": None, "stderr": KEPT_BYTES}
    assert asked.ask("true", "m", capture_output=True).rings == {"stdout": None, "stderr": None}
    assert asked.ask("true", "m", stdout=2, stderr=subprocess.STDOUT).rings == {}


def test_its_session_is_its_own_unless_the_caller_sees_to_that():
    assert asked.ask("true", "m").keywords["start_new_session"] is True
    assert asked.ask("true", "m", start_new_session=False).keywords["start_new_session"] is False
    assert "start_new_session" not in asked.ask("true", "m", preexec_fn=os.setsid).keywords
    assert "start_new_session" not in asked.ask("true", "m", process_group=0).keywords


def test_its_mark_is_in_an_environment_that_is_else_the_callers():
    own = {"A": "1"}
    assert asked.ask("true", "m", env=own).keywords["env"] == {"A": "1", "ONBOX_WATCH": "m"}
    assert own == {"A": "1"}
    assert asked.ask("true", "m").keywords["env"]["PATH"] == os.environ["PATH"]


def test_what_was_opened_is_closed_where_the_rest_cannot_be_meant(tmp_path):
    files = open_files()
    with pytest.raises(FileNotFoundError):
        asked.ask("true", "m", stdout_file=tmp_path / "x", stderr_file=tmp_path / "no" / "y")
    assert open_files() == files


def test_the_executable_is_found_on_the_path_that_it_will_have(tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    assert asked.ask("tool x", "m", env={"PATH": str(tmp_path)}).executable == str(tmp_path / "tool")
    assert asked.ask("no-such-tool", "m").executable == "no-such-tool"


@pytest.mark.parametrize(
    ("text", "content", "whole", "found"),
    [
        (Text(), b"a\r\n\xff", True, b"a\r\n\xff"),
        (Text(text=True, encoding="utf-8"), "é\r\nx\ry".encode(), True, "é\nx\ny"),
        (Text(encoding="utf-8"), "é".encode()[1:] + b"x", False, "\ufffdx"),
        (Text(encoding="ascii", errors="ignore"), "éx".encode(), True, "x"),
    ],
)
def test_bytes_become_what_the_caller_reads(text, content, whole, found):
    assert text.read(content, whole=whole) == found


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--", "a", "--b"], Line(words=("a", "--b"))),
        (["a", "--", "b"], Line(words=("a", "--", "b"))),
        (
            ["--out=x=y", "--interval", "5", "--gpu", "--no-children", "--", "-c"],
            Line("x=y", 5.0, gpu=True, no_children=True, words=("-c",)),
        ),
        (
            ["--max-interval=7", "--timeout", "1.5", "--grace=0", "a"],
            Line(max_interval=7.0, timeout=1.5, grace=0.0, words=("a",)),
        ),
    ],
)
def test_a_command_line_is_read(words, line):
    assert read(words) == line
