"""The lines, byte for byte."""

import json
import math
import time

import pytest

from onbox.meter import records
from onbox.meter.records import Child, Metrics
from onbox.meter.redact import redacted

ONE = Metrics(1700000000000, 12.345, 2048, 4096, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
PROCESS = (
    '{"ts_ms":1700000000000,"cpu_usage":12.35,"mem_rss_kb":2048,"mem_vms_kb":4096,"disk_read_bytes":1,'
    '"disk_write_bytes":2,"syscall_read_bytes":3,"syscall_write_bytes":4,"page_faults_cached":5,"page_faults_disk":6,'
    '"sys_net_rx_bytes":7,"sys_net_tx_bytes":8,"thread_count":9,"uptime_secs":10,"cpu_core":3}'
)
# What denet's own reader wants of a sum, every one of them and integers where it has integers.
WANTED = [
    "ts_ms",
    "cpu_usage",
    "mem_rss_kb",
    "mem_vms_kb",
    "disk_read_bytes",
    "disk_write_bytes",
    "sys_net_rx_bytes",
    "sys_net_tx_bytes",
    "thread_count",
    "process_count",
    "uptime_secs",
]


def test_one_process():
    assert records.process(ONE, 3) == PROCESS
    assert records.process(ONE, 3, 1500) == PROCESS[:-1] + ',"mem_pss_kb":1500}'


def test_a_tree_line_byte_for_byte():
    line = records.tree(ONE, 2, PROCESS, [Child(7, '"sleep"', PROCESS)], {"cgroup_used_kb": 5})
    figures = PROCESS[1 : -len(',"cpu_core":3}')]
    assert line.decode() == (
        f'{{"kind":"tree","ts_ms":1700000000000,"parent":{PROCESS},"children":[{{"pid":7,"command":"sleep",'
        f'"metrics":{PROCESS}}}],"aggregated":{{{figures},"process_count":2,"cgroup_used_kb":5}},'
        '"cpu_usage":12.35,"mem_rss_kb":2048}\n'
    )
    assert set(WANTED) <= set(json.loads(line)["aggregated"])


def test_a_tree_without_its_root_and_a_process_alone():
    assert json.loads(records.tree(ONE, 0, None, [], {}))["parent"] is None
    line = records.sample(PROCESS, {"process_count": 1})
    assert line.startswith(b'{"kind":"sample","ts_ms":1700000000000,')
    assert set(WANTED) <= set(json.loads(line))


def test_lines_are_compact_ascii_and_one_line_each():
    line = records.child(1, 7, 1, ["sh", "-c", "a\nb \x1b[0m ü"], "/bin/sh")
    assert line == (
        b'{"kind":"child","ts_ms":1,"pid":7,"ppid":1,"cmd":["sh","-c","a\\nb \\u001b[0m \\u00fc"],"exe":"/bin/sh"}\n'
    )


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_is_never_written(number):
    with pytest.raises(ValueError):
        records.line({"x": number})


@pytest.mark.parametrize("raw", [b"\xff", b"a\xc3(", b"\xed\xa0\x80"])
def test_bytes_that_are_no_text_become_text_that_every_reader_takes(raw):
    text = records.compact(records.text(raw))
    assert "\\ufffd" in text and "\\ud8" not in text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["t.py", "--token", "abc", "--lr", "1"], ["t.py", "--token", "***", "--lr", "1"]),
        (["--hf-token", "abc"], ["--hf-token", "***"]),
        (["--password=abc def"], ["--password=*** def"]),
        (["--api-key=abc", "--api_key", "x"], ["--api-key=***", "--api_key", "***"]),
        (["env", "HF_TOKEN=abc", "WANDB_API_KEY=x", "t"], ["env", "HF_TOKEN=***", "WANDB_API_KEY=***", "t"]),
        (
            ["sh", "-c", "export AWS_SECRET_ACCESS_KEY='a b'; run"],
            ["sh", "-c", "export AWS_SECRET_ACCESS_KEY=***; run"],
        ),
        (["sh", "-c", "x --token abc; run"], ["sh", "-c", "x --token ***; run"]),
        (["curl", "https://me:pw@host/x"], ["curl", "https://***@host/x"]),
        (["--secret", "s"], ["--secret", "***"]),
        (["--max-tokens", "512", "--tokenizer", "gpt2"], ["--max-tokens", "512", "--tokenizer", "gpt2"]),
        (["--token"], ["--token"]),
        (["secretary", "tokenize.py"], ["secretary", "tokenize.py"]),
    ],
)
def test_named_secrets_are_not_written_down(words, shown):
    assert redacted(words) == shown


def test_a_long_command_is_cut_and_says_so():
    found = redacted(["x" * 100_000, "y"])
    assert len(found[0]) < 17_000 and found[0].endswith("…") and found[-1] == "…"
    assert redacted(["a"] * 10_000)[-1] == "…"
    assert sum(map(len, redacted(["ab"] * 10_000, 100))) <= 101


@pytest.mark.parametrize(
    "word", ["x" * 30_000, 'TOKEN="' * 5000, "a-" * 15_000, "a://" * 7000, "--token " * 4000, "\\'" * 9000]
)
def test_no_word_takes_long_to_look_through(word):
    began = time.thread_time()
    redacted([word] * 3)
    assert time.thread_time() - began < 2, "the time grows with the square of the length"
