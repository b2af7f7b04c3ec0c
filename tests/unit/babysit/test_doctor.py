"""Doctor's parts without a box: checks that hang or crash, the order of codes, keys, settings, mounts, steps."""

import subprocess
import threading
import tomllib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babysit.acts import init
from babysit.acts.doctor import box_rules, doctor, local, notifier, ssh, state
from babysit.acts.doctor.as_cron import Answer
from babysit.acts.doctor.box import STEPS, BoxSeen, visit
from babysit.acts.doctor.ground import Ground
from babysit.acts.doctor.lines import Check, Level, Line, examine, exit_code_of, fail, ok, warn
from babysit.acts.doctor.show import lines as shown
from babysit.acts.doctor.show import shaped
from babysit.acts.here import Here
from fleet.arming.preflight import BoxReport
from fleet.arming.preflight_rules import REFUSALS, REMARKS
from fleet.errors import LedgerError, LinkError, ProbeUnreadable, SpecError, UsageError
from fleet.link import keys
from fleet.link.address import Address
from fleet.model.probe import Cause, Unreachable
from fleet.model.run import Run
from fleet.model.spec import NAME_PATTERN, BoxSpec, RunSpec, Spec
from fleet.text.fill import toml, toml_key

BOX = BoxSpec(name="gpu1", host="gpu1")
ADDRESS = Address("10.0.0.7", 22, "dev", (), (), None, "10.0.0.7", by_hand="ssh gpu1")


def _levels(checks, ground=None, **options):
    return [(line.name, line.found.level) for line in examine(checks, ground, **options).lines]


def test_a_check_that_hangs_or_crashes_is_a_line_and_the_others_go_on():  # P5
    for_ever = threading.Event()

    def crashes(_):
        yield ok("half")
        raise KeyError("x")

    def ours(_):
        raise LedgerError("the ledger is gone", hint="look", next=("ls",))

    checks = (
        Check("a", "hangs", lambda _: for_ever.wait() and ()),
        Check("a", "crashes", crashes),
        Check("a", "leaves", lambda _: (_ for _ in ()).throw(SystemExit(3))),
        Check("a", "ours", ours),
        Check("a", "none", lambda _: ()),
        Check("a", "two", lambda _: (ok("1"), warn("2"))),
    )
    try:
        found = examine(checks, None, limit_s=2)
    finally:
        for_ever.set()
    seen = {(line.name, line.found.level) for line in found.lines}
    assert seen == {
        *((name, Level.FAIL) for name in ("hangs", "crashes", "leaves", "ours")),
        ("two", Level.OK),
        ("two", Level.WARN),
    }
    said = {line.name: line.found for line in found.lines}
    assert " 2 s" in said["hangs"].says and "KeyError" in said["crashes"].says
    assert said["ours"].fix == ("ls",) and said["ours"].more == ("look",)
    assert found.not_asked == ("none",)


@pytest.mark.parametrize(
    ("codes", "code"), [((), 0), ((10,), 10), ((4, 10), 10), ((11, 4), 4), ((12, 11), 11), ((12,), 12)]
)
def test_the_exit_code_is_the_first_of_the_ticks_order_and_a_warning_counts_nothing(codes, code):
    found = [*(fail("x", exit_code=each) for each in codes), warn("y"), ok("z")]
    assert exit_code_of([Line("a", "b", each) for each in found]) == code


# -- a box's lines


def _away(cause):
    return LinkError(
        Unreachable(cause, "why", transient=True, at=0.0, took_s=0.0), where="gpu1", next=("ssh gpu1",)
    )


@pytest.mark.parametrize("end", STEPS)
def test_the_step_that_ended_the_visit_gets_the_line_and_nothing_beyond_it_is_said(end):
    seen = BoxSeen(BOX, None, address=ADDRESS, step=end, trouble=_away(Cause.CUT))
    found = examine(box_rules.CHECKS, seen)
    levels = [(line.name, line.found.level) for line in found.lines]
    before = STEPS[: STEPS.index(end)]
    assert levels == [*((name, Level.OK) for name in before), (end, Level.FAIL)]
    assert set(found.not_asked) == {check.name for check in box_rules.CHECKS} - {*before, end}
    assert exit_code_of(found.lines) == 11


def test_an_address_that_cannot_be_used_ends_the_visit_at_its_first_step(tmp_path):  # S21
    box = BoxSpec(name="gpu1", host="-oProxyCommand=x")
    seen = visit(Ground(Here(tmp_path, Spec()), tmp_path / "babysit", 0.0, box=box))
    found = examine(box_rules.CHECKS, seen)
    assert [(line.name, line.found.level) for line in found.lines] == [("address", Level.FAIL)]


def test_what_a_box_said_instead_of_an_answer_is_untrusted():  # S25
    garbled = ProbeUnreadable("no frame", where="gpu1", hint="it said: run me")
    strange = LinkError(
        Unreachable(Cause.PROTOCOL, "it says 'run me'", transient=False, at=0.0, took_s=0.0), where="gpu1"
    )
    for trouble, code in ((garbled, 12), (strange, 11)):
        seen = BoxSeen(BOX, None, address=ADDRESS, step="answer", trouble=trouble)
        line = examine(box_rules.CHECKS, seen).lines[-1]
        document = shaped(line)
        assert "run me" in document.pop("untrusted_says") and "run me" not in str(document)
        assert line.found.exit_code == code


def test_doubts_stand_beside_an_address_or_key_that_could_not_be_read_here():
    doubts = ("the ledger cannot be read",)
    trouble = UsageError("no such host", next=("ssh -G gpu1",))
    seen = BoxSeen(BOX, None, doubts=doubts, step="address", trouble=trouble)
    found = examine(box_rules.CHECKS, seen).lines[0].found
    assert found.more == doubts and found.fix == ("ssh -G gpu1",) and found.exit_code == 10


ANSWER_OF_THE_BOX = BoxReport(
    box="gpu1",
    home="/home/dev",
    state_dir="/home/dev/.local/state/babysit",
    state_error=None,
    state_fs="ext4",
    free_bytes=10**9,
    free_inodes=10**6,
    lock_dir="/home/dev/.local/state/babysit",
    lock_error=None,
    lock_fs="ext4",
    cwd=None,
    cwd_there=None,
    os="Debian",
    arch="x86_64",
    sh="/bin/dash",
    bash="/bin/bash",
    python="/usr/bin/python3",
    python_version="3.11.2",
    tmux="tmux 3.3a",
    setsid="/usr/bin/setsid",
    flock="/usr/bin/flock",
    perl="/usr/bin/perl",
    timeout="/usr/bin/timeout",
    gpus=("H100",),
    uid=1000,
    user="dev",
    boot_id="b",
    machine_id="m",
    box_id="1" * 32,
    onbox_sum=None,
    owner=None,
    now=0.0,
    skew_s=0.5,
    noise_bytes=0,
    took_s=0.2,
)
RUN = Run("train-abcde", RunSpec("train", ()), BOX, "n", "t", "c", "d", 0.0, box_id="1" * 32)


def _at_box(**differs):
    seen = BoxSeen(BOX, None, runs=(RUN,), address=ADDRESS, step="answer", strict_kex=True, cron=Answer(None))
    report = msgspec.structs.replace(ANSWER_OF_THE_BOX, **differs)
    return examine(box_rules.CHECKS, msgspec.structs.replace(seen, report=report))


def test_a_box_that_has_everything_is_ok_in_every_line():
    found = _at_box()
    assert {line.found.level for line in found.lines} == {Level.OK} and found.not_asked == ()
    assert len(found.lines) == len(box_rules.CHECKS)


# What a box may lack: the field, the line that says so, and how.
LACKS = {
    "tools to lock": (
        {"flock": None, "python": None, "perl": None},
        {"lock tool": Level.FAIL, "python": Level.WARN},
    ),
    "room": ({"free_bytes": 5}, {"disk": Level.FAIL}),
    "inodes": ({"free_inodes": 5}, {"inodes": Level.FAIL}),
    "a folder to write": ({"state_error": "read-only"}, {"state folder": Level.FAIL}),
    "a local disk for locks": ({"lock_fs": "nfs4"}, {"lock folder": Level.FAIL}),
    "a lasting disk": ({"state_fs": "tmpfs"}, {"state folder": Level.WARN}),
    "an id": ({"box_id": None}, {"box id": Level.FAIL}),
    "its old id": ({"box_id": "2" * 32}, {"box id": Level.FAIL}),
    "tmux": ({"tmux": None}, {"detach": Level.WARN}),
    "bash": ({"bash": None}, {"bash": Level.WARN}),
    "timeout": ({"timeout": None}, {"timeout": Level.WARN}),
    "a GPU": ({"gpus": None}, {"gpu": Level.WARN}),
    "a quiet shell": ({"noise_bytes": 40}, {"login shell": Level.WARN}),
    "the time": ({"skew_s": -4000.0}, {"clock": Level.WARN}),
}


@pytest.mark.parametrize("lack", LACKS)
def test_what_a_box_lacks_is_said_in_its_line_with_a_command_and_in_no_other(lack):
    differs, wanted = LACKS[lack]
    worse = {line.name: line.found for line in _at_box(**differs).lines if line.found.level is not Level.OK}
    assert {name: found.level for name, found in worse.items()} == wanted
    assert all(found.fix and found.fix[0].startswith(("ssh gpu1 ", "babysit ")) for found in worse.values())


def test_a_fix_on_the_box_goes_the_way_that_its_spec_says():
    away = msgspec.structs.replace(ADDRESS, by_hand="ssh -p 2222 dev@10.0.0.7")
    box = BoxSpec(name="gpu1", host="10.0.0.7", user="dev", port=2222)
    report = msgspec.structs.replace(ANSWER_OF_THE_BOX, free_bytes=5, tmux=None)
    seen = BoxSeen(box, None, address=away, step="answer", report=report)
    fixes = [line.found.fix[0] for line in examine(box_rules.CHECKS, seen).lines if line.found.fix]
    assert len(fixes) == 2 and all(fix.startswith("ssh -p 2222 dev@10.0.0.7 '") for fix in fixes)


def test_a_key_exchange_that_is_not_strict_and_a_login_that_cron_cannot_do():
    troubles = (Answer("no key", ("ssh gpu1",), auth=True), Answer("no route", ("ssh gpu1",)))
    for trouble, said in zip(troubles, ("no agent under cron: no key", "under cron: no route"), strict=True):
        seen = BoxSeen(BOX, None, address=ADDRESS, step="answer", strict_kex=False, cron=trouble)
        found = {line.name: line.found for line in examine(box_rules.CHECKS, seen).lines}
        assert found["key exchange"].level is Level.WARN
        assert found["cron login"].level is Level.WARN and found["cron login"].says == said
    untold = examine(box_rules.CHECKS, BoxSeen(BOX, None, address=ADDRESS, step="answer"))
    assert {"key exchange", "cron login"} <= set(untold.not_asked)


def test_each_of_arms_own_rules_about_a_box_has_its_line():
    about = {row.about for row in (*REFUSALS, *REMARKS)} - {""}
    assert len(about) > 10
    assert about <= {check.name for check in box_rules.CHECKS}
    assert {remark.about for remark in REMARKS} - {""} <= set(box_rules.REMEDIES)
    # Only what speaks of stages, folders and the length of one run belongs to none.
    assert sum(not row.about for row in REFUSALS) == 4 and sum(not row.about for row in REMARKS) == 2


def test_every_check_has_a_name_of_its_own_in_its_group():
    names = [(check.group, check.name) for check in (*doctor.HERE, *box_rules.CHECKS)]
    assert len(names) == len(set(names)) > 30


# -- on the screen


def test_a_line_is_at_most_80_columns_a_fix_is_never_cut_and_nothing_acts_on_the_screen():  # S23
    long = "word " * 60
    found = fail(long + "\x1b]52;c;aWQ=\x07", "x" * 200, more=("\u202eback",), untrusted="\x1b[2J")
    screen = list(shown([Line("box", "disk", found)]))
    assert all(len(line) <= 80 or line.lstrip() == f"fix: {'x' * 200}" for line in screen)
    assert any(line.endswith("x" * 200) for line in screen)
    assert all(char.isprintable() for line in screen for char in line)
    assert screen[0] == "box" and screen[1].startswith("  FAIL  disk ")


# -- keys and settings


def _keygen(path, *options):
    subprocess.run(["ssh-keygen", "-q", "-f", path, *options], check=True, stdin=subprocess.DEVNULL)
    return path


KEYS = {
    "open": (("-t", "ed25519", "-N", ""), "open"),
    "locked": (("-t", "ed25519", "-a", "1", "-N", "secret words"), "locked"),
    "open PEM": (("-t", "ecdsa", "-m", "PEM", "-N", ""), "open"),
    "locked PEM": (("-t", "ecdsa", "-m", "PEM", "-N", "secret words"), "locked"),
    "locked PKCS8": (("-t", "ecdsa", "-m", "PKCS8", "-N", "secret words"), "locked"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_with_a_passphrase_is_told_without_asking_for_it(tmp_path, kind):
    options, expected = KEYS[kind]
    path = _keygen(tmp_path / "id", *options)
    found = keys.read_key(str(path))
    public = (tmp_path / "id.pub").read_bytes()
    assert found.state == expected and found.mode == 0o600
    assert found.public is not None and found.public == keys.read_key(f"{path}.pub").public
    if "P" not in kind:  # the new format tells its public half even when it is locked
        (tmp_path / "id.pub").unlink()
        assert keys.read_key(str(path)).public == found.public
        (tmp_path / "id.pub").write_bytes(public)
    assert keys.read_key(f"{path}.pub").state == "absent"


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END", b"\0" * 70000]
)
def test_what_is_no_key_is_none(tmp_path, content):
    (tmp_path / "id").write_bytes(content)
    assert keys.read_key(str(tmp_path / "id")).state == "no key"
    assert keys.read_key(str(tmp_path / "none")).state == "absent"


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_no_bytes_break_the_reader_of_keys(content):
    armoured = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + content + b"\n-----END OPENSSH PRIVATE KEY-----"
    assert keys.parse(armoured)[0] in ("open", "locked", "no key")


def test_every_program_that_ssh_config_runs_is_named(tmp_path):
    text = """
Host a
  ProxyCommand none
  ProxyJump b
Host b
  proxycommand=nc -X 5 %h %p
Match host c exec "test -e /tmp/x"
  KnownHostsCommand /usr/bin/keys %H
# ProxyCommand commented
Match all
  LocalCommand echo hi
"""
    found = [(each.line, each.keyword) for each in ssh.programs_in(text, "config")]
    assert found == [(6, "ProxyCommand"), (7, "Match exec"), (8, "KnownHostsCommand"), (11, "LocalCommand")]
    assert ssh.programs_in(text, "config")[0].program == "nc -X 5 %h %p"


def test_included_files_are_read_too_and_a_circle_ends(tmp_path):
    (tmp_path / "config").write_text('Include parts/*.conf\nHost gpu1 *.lab "gpu 2"\n')
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/a.conf").write_text(f"Include {tmp_path}/config\nHost=gpu3 gpu1\n  ProxyCommand x\n")
    files = ssh.config_files((tmp_path / "config", tmp_path / "none"))
    assert [file.name for file in files] == ["config", "a.conf"]


def test_the_names_of_hosts_are_suggested_and_patterns_are_not(tmp_path):
    home = tmp_path / "home/.ssh"
    home.mkdir()
    (home / "config").write_text("Include more\nHost gpu1 *.lab !bad gpu-?\nHost *\n")
    (home / "more").write_text("Host = gpu9 gpu1\n")
    assert init.aliases() == ("gpu1", "gpu9")


MOUNTS = r"""
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:20 / /home rw - nfs4 server:/home rw
24 23 0:21 / /home/ann/my\040disk rw shared:1 - tmpfs tmpfs rw
25 22 0:22 / /home rw - xfs /dev/sdb rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/etc", "ext4"), ("/home/bob", "xfs"), ("/home/ann/my disk/x", "tmpfs"), ("/homely", "ext4")],
)
def test_a_folders_file_system_is_that_of_the_longest_and_last_mount(tmp_path, path, kind):
    assert state.fs_of(tmp_path.__class__(path), MOUNTS) == kind
    assert state.fs_of(tmp_path.__class__(path), "") is None


@pytest.mark.parametrize(
    ("kind", "excluded", "level"),
    [("ext4", True, Level.OK), (None, True, Level.OK), ("nfs4", True, Level.WARN), ("fuse.sshfs", True, Level.WARN), ("ext4", False, Level.FAIL)],
)  # fmt: skip
def test_a_lock_on_a_network_disk_or_one_that_keeps_nobody_out_is_not_trusted(
    tmp_path, kind, excluded, level
):
    found = state.of_locks(tmp_path, kind, excluded=excluded)
    assert found.level is level and (level is Level.OK or "BABYSIT_STATE" in found.fix[0])


def test_settings_of_ssh_that_others_can_write_are_a_failure(tmp_path):  # S41
    config = tmp_path / "home/.ssh/config"
    config.parent.mkdir()
    config.write_text("Host gpu1\n")
    assert not [found for found in ssh.settings(None) if found.level is Level.FAIL]
    config.chmod(0o666)
    failed = [found for found in ssh.settings(None) if found.level is Level.FAIL]
    assert len(failed) == 1 and failed[0].fix == (f"chmod 600 {config}",)


@pytest.mark.parametrize(
    ("zone", "known"),
    [
        ("UTC", True),
        (":UTC", True),
        ("EST5EDT", True),
        ("<+03>-3", True),
        ("Mars/Phobos", False),
        ("../x", False),
        ("/nowhere", False),
    ],
)
def test_a_time_zone_is_known_or_not(zone, known):
    assert local.is_zone(zone) is known


# -- init's text


NAMES = st.from_regex(NAME_PATTERN).filter(str.isascii)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
@settings(max_examples=60, deadline=None)
def test_any_text_round_trips_through_toml(text):  # S31
    assert (
        tomllib.loads(f"x = {toml(text)}\n{toml_key(text)} = 1\n" if text != "x" else "x = 'x'")["x"] == text
    )
    assert list(tomllib.loads(f"{toml_key(text)} = 1")) == [text]


def test_text_that_is_no_unicode_cannot_be_toml():
    with pytest.raises(ValueError, match="surrogates"):
        toml("a\udcff")


@given(
    box=NAMES,
    run=NAMES,
    command=TEXT.filter(str.strip),
    user=st.none() | NAMES,
    port=st.none() | st.integers(1, 65535),
)
@settings(max_examples=25, deadline=None)
def test_the_drafted_file_holds_exactly_what_was_said(box, run, command, user, port):  # S16 S18
    wished = init.wish(box=box, host=None, user=user, port=port, run=run, command=(command,))
    text, spec = init.draft(wished, init.target())
    assert all(len(line) <= 80 for line in text.splitlines() if line.startswith("#")), text
    assert spec.boxes == {box: BoxSpec(name=box, host=box, user=user, port=port)}
    assert spec.runs[run].stages[0].command == command and spec.runs[run].box == box
    assert all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize(
    "words",
    [
        {"box": "-oProxyCommand=x", "host": None},
        {"box": None, "host": None},
        {"box": "a b", "host": None},
        {"box": None, "host": "user@host"},
        {"box": "gpu1", "host": None, "run": "train"},
        {"box": "gpu1", "host": None, "command": ("true",)},
        {"box": "gpu1", "host": None, "run": "$(id)", "command": ("true",)},
    ],
)
def test_what_cannot_be_a_name_or_is_half_a_run_is_refused(words):  # S16
    with pytest.raises(UsageError):
        init.wish(**words)


def test_a_host_that_cannot_be_one_is_refused_before_anything_is_written():  # S21
    with pytest.raises(SpecError):
        init.draft(init.wish(box="gpu1", host="-oProxyCommand=x"), init.target())


def test_a_name_for_the_box_and_a_key_in_this_folder(tmp_path):
    assert init.wish(box=None, host="10.0.0.7").box == BoxSpec(name="10.0.0.7", host="10.0.0.7")
    kept = init.wish(box="gpu1", host="h", identity="keys/id").box.identity
    assert kept == f"{tmp_path}/keys/id"  # cron has another folder
    assert init.wish(box="gpu1", host="h", identity="~/.ssh/id").box.identity == "~/.ssh/id"


def test_a_file_that_appears_at_the_last_moment_is_not_replaced(tmp_path):
    file = tmp_path / "babysit.toml"
    file.write_text("# mine\n")
    with pytest.raises(UsageError, match="is there already"):
        init.write(file, "# other\n")
    assert file.read_text() == "# mine\n"
    (tmp_path / "link.toml").symlink_to(tmp_path / "nowhere.toml")
    with pytest.raises(UsageError):
        init.write(tmp_path / "link.toml", "# other\n")
    assert not (tmp_path / "nowhere.toml").exists()


def test_where_nobody_is_told_the_fix_opens_the_file_that_names_targets(tmp_path):
    """Sending a test notice to nobody leaves everything as it is."""
    file = tmp_path / "my job" / "babysit.toml"
    for path, fix in ((None, "babysit init"), (str(file), f"${{EDITOR:-vi}} '{file}'")):
        place = Here(tmp_path, Spec(path=path))
        (found,) = notifier.targets(Ground(place, tmp_path / "babysit", 0.0))
        assert (found.level, found.fix) == (Level.WARN, (fix,))
