"""Doctor on a set-up that is well, and on many that are not: the right line, its fix, its code, and only that line."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess

import pytest
import strace
from false_boxes import says, serving
from laptop import BABYSIT, SOON_S, Done, Laptop
from receiver import receiver
from waiting import wait_until

from babysit.acts.doctor.box import VISIT_S

CANARY = "canary-doctor-4410"
SPEC = """
[box.gpu1]

[notify.phone]
url = "file:~/phone.url"
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The state folder of a laptop where cron's patrol has just run."""
    laptop = Laptop(tmp_path_factory.mktemp("kept") / "laptop", ())
    assert laptop.run("patrol", "--once", BABYSIT_ORIGIN="cron").returncode == 0
    laptop.close()
    return laptop.state


@pytest.fixture
def furnished(tmp_path, kept):
    """`furnished(boxes)`: a laptop where all is well: boxes known, cron has fired, no secret to lose."""
    made = []

    def make(*boxes, known=True, spec=SPEC):
        laptop = Laptop(tmp_path / "laptop", boxes, known=known)
        made.append(laptop)
        shutil.copytree(kept, laptop.state)
        for folder in laptop.state.parents[:2]:
            folder.chmod(0o700)
        laptop.spec(spec)
        _secret(laptop, "json://127.0.0.1:9/hook")
        return laptop

    yield make
    for laptop in made:
        laptop.close()


@pytest.fixture
def well(furnished, shared):
    return furnished(shared)


def _secret(laptop, url):
    file = laptop.home / "phone.url"
    file.touch()
    file.chmod(0o600)
    file.write_text(url + "\n")


def _levels(document):
    """The worst level of each check, which is one of `ok`, `warn`, `fail`."""
    found = {}
    for line in document["lines"]:
        key = (line["group"], line["name"])
        found[key] = max(found.get(key, "ok"), line["level"], key=("ok", "warn", "fail").index)
    return found


# What is so on every loopback box: no GPU, and a home folder that is a tmpfs.
OF_THE_RIG = {("box", "state folder"): "warn", ("box", "gpu"): "warn"}
STEPS = ("address", "tcp", "ssh", "host key", "login", "answer")
FACTS = (
    *(
        "key exchange",
        "clock",
        "disk",
        "inodes",
        "state folder",
        "lock folder",
        "lock tool",
        "detach",
        "timeout",
        "bash",
    ),
    *("python", "gpu", "login shell", "box id", "cron login"),
)
LOCAL = {
    *(("local", name) for name in ("installation", "siblings", "shipped files", "courier", "clock")),
    *(("state", name) for name in ("folder", "files", "room", "locks", "ledger")),
    ("spec", "babysit.toml"),
    *(("ssh", name) for name in ("program", "agent", "ssh_config", "keys")),
    *(("cron", name) for name in ("program", "targets", "armed")),
    ("notify", "targets"),
}
AT_BOX = {("box", name) for name in (*STEPS, *FACTS)}


def _examined(laptop, box, wanted, code, *, gone=(), words=(), run=None, **env):
    """One doctor's document, when it says `wanted` and otherwise what it says where all is well.

    `wanted` maps checks to levels; the other local ones are ok, and those of the box too, up to the first
    step that fails: what lies beyond is not asked, and named. `gone` have no line.
    """
    argv = ("doctor", *((box,) if box else ()), "--json", *words)
    done = run(argv) if run else laptop.run(*argv, limit_s=150, **env)
    document = done.json
    end = next((n for n, step in enumerate(STEPS) if wanted.get(("box", step)) == "fail"), None)
    asked = {*LOCAL, *(AT_BOX if box else {("cron", "keys")})}
    if box and end is not None:
        asked -= {("box", name) for name in (*STEPS[end + 1 :], *FACTS)}
    expected = {key: OF_THE_RIG.get(key, "ok") for key in asked - set(gone)} | wanted
    assert _levels(document) == expected, done.said
    assert (done.returncode, document["exit_code"], document["ok"]) == (code, code, code == 0), done.said
    if box and end is not None:
        assert set(document["not_asked"]) == {*STEPS[end + 1 :], *FACTS}
    assert document["took_s"] < VISIT_S + 10  # it is bounded, whatever it meets
    assert CANARY not in done.said
    return document


def _line(document, group, name):
    """The worst line of a check."""
    lines = [line for line in document["lines"] if (line["group"], line["name"]) == (group, name)]
    return max(lines, key=lambda line: ("ok", "warn", "fail").index(line["level"]))


def test_where_all_is_well_every_line_is_ok_and_the_screen_fits(well):
    document = _examined(well, "gpu1", {}, 0)
    assert document["schema"] == "babysit.doctor/1" and document["box"] == "gpu1"
    assert "round trip" in _line(document, "box", "answer")["says"]
    assert "cron" in _line(document, "cron", "armed")["says"]
    screen = well.run("doctor")
    assert screen.returncode == 0, screen.said
    for line in screen.stdout.splitlines():  # a word, such as a path, is never broken
        assert len(line) <= 80 or " fix: " in line or max(map(len, line.split())) > 40, line
    assert "0 to mend" in screen.stdout and "FAIL" not in screen.stdout
    # It looked, and left everything as it was; the key is not pinned by looking either.
    with contextlib.closing(sqlite3.connect(f"file:{well.state}/ledger.db?mode=ro", uri=True)) as ledger:
        assert ledger.execute("SELECT count(*) FROM pin").fetchone() == (0,)
        assert ledger.execute("SELECT count(*) FROM tick").fetchone() == (1,)


def test_a_new_laptop_is_told_what_is_not_there_yet(tmp_path):
    laptop = Laptop(tmp_path / "laptop", ())
    wanted = {("spec", "babysit.toml"): "warn", ("notify", "targets"): "warn", ("cron", "armed"): "warn"}
    gone = (("state", "files"), ("cron", "keys"), ("cron", "targets"))
    document = _examined(laptop, None, wanted, 0, gone=gone)
    assert _line(document, "spec", "babysit.toml")["fix"] == ["babysit init"]
    assert _line(document, "cron", "armed")["fix"] == ["babysit crontab"]
    assert not laptop.state.exists()


# -- broken on this machine


def _open_state(laptop):
    laptop.state.chmod(0o777)


def _open_to_look(laptop):
    laptop.state.chmod(0o755)


def _loose_ledger(laptop):
    (laptop.state / "ledger.db").chmod(0o644)


def _newer_ledger(laptop):
    with contextlib.closing(sqlite3.connect(laptop.state / "ledger.db")) as ledger:
        ledger.execute("PRAGMA user_version = 9000")


def _no_ledger_at_all(laptop):
    for file in laptop.state.glob("ledger.db*"):
        file.unlink()
    (laptop.state / "ledger.db").touch(mode=0o600)
    (laptop.state / "ledger.db").write_text("this is no ledger at all\n" * 200)


def _malformed_spec(laptop):
    laptop.spec("[box.gpu1\n")


def _writable_spec(laptop):
    (laptop.home / "babysit.toml").chmod(0o666)


def _missing_secret(laptop):
    (laptop.home / "phone.url").unlink()


def _readable_secret(laptop):
    (laptop.home / "phone.url").chmod(0o644)


def _nonsense_url(laptop):
    _secret(laptop, f"nosuchservice-{CANARY}://x/{CANARY}")


def _bare_variable(laptop):
    laptop.spec(SPEC.replace("file:~/phone.url", "env:PHONE_URL"))


def _old_firing(laptop):
    with contextlib.closing(sqlite3.connect(laptop.state / "ledger.db")) as ledger:
        ledger.execute("UPDATE tick SET at = at - 90000")
        ledger.commit()


def _locked_key(laptop):
    key = laptop.home / "locked"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-a", "1", "-N", "words of mine", "-f", str(key)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    laptop.spec(SPEC.replace("[box.gpu1]", f'[box.gpu1]\nidentity = "{key}"'))


# One break each: how, what doctor then says, which lines it cannot have then, part of the fix, part of what is said.
_SPEC_LINES = (("notify", "targets"), ("cron", "targets"), ("cron", "keys"))
BROKEN = {
    "others can write the state folder": (_open_state, {("state", "folder"): "fail"}, (), "chmod 700", "other users"),
    "others can look into the state folder": (_open_to_look, {("state", "folder"): "warn"}, (), "chmod 700", "0755"),
    "others can read the ledger": (_loose_ledger, {("state", "files"): "warn"}, (), "chmod go-rwx", "ledger.db"),
    "a ledger of a newer babysit": (_newer_ledger, {("state", "ledger"): "fail"}, (), "babysit", "9000"),
    "no ledger but a text": (_no_ledger_at_all, {("state", "ledger"): "fail"}, (("cron", "armed"),), "babysit check --repair", "ledger"),
    "malformed TOML": (_malformed_spec, {("spec", "babysit.toml"): "fail"}, _SPEC_LINES, "babysit.toml", "not valid TOML"),
    "others can write the spec": (_writable_spec, {("spec", "babysit.toml"): "fail"}, _SPEC_LINES, "chmod go-w", "written by other"),
    "no file with the secret": (_missing_secret, {("notify", "targets"): "fail"}, (), "umask 077", "file:~/phone.url"),
    "others can read the secret": (_readable_secret, {("notify", "targets"): "fail"}, (), "chmod 600", "0644"),
    "an address that no service takes": (_nonsense_url, {("notify", "targets"): "fail"}, (), "phone.url", "bad-url"),
    "a secret that cron does not have": (_bare_variable, {("cron", "targets"): "warn", ("notify", "targets"): "fail"}, (), "PHONE_URL", "env:PHONE_URL"),
    "cron fires no more": (_old_firing, {("cron", "armed"): "warn"}, (), "babysit crontab", "nothing watches"),
    "a key with a passphrase and no agent": (_locked_key, {("ssh", "keys"): "fail"}, (("cron", "keys"),), "ssh-add", "passphrase"),
}  # fmt: skip

# Several at once, none of which hides another.
AT_ONCE = (
    ("others can write the state folder", "others can read the ledger", "others can read the secret", "cron fires no more"),
    ("a ledger of a newer babysit", "a key with a passphrase and no agent", "an address that no service takes"),
    ("no ledger but a text", "malformed TOML"),
    ("others can write the spec",),
    ("a secret that cron does not have",),
    ("no file with the secret", "others can look into the state folder"),
)  # fmt: skip


def _all_said(laptop, kinds):
    wanted, gone = {}, set()
    for prepare, levels, without, _, _ in (BROKEN[kind] for kind in kinds):
        prepare(laptop)
        wanted |= levels
        gone |= set(without)
    document = _examined(laptop, None, wanted, 10 if "fail" in wanted.values() else 0, gone=gone)
    for kind in kinds:
        _, levels, _, fix, says = BROKEN[kind]
        line = _line(document, *next(iter(levels)))
        assert fix in line["fix"][0] and says in line["says"], line


@pytest.mark.parametrize("kinds", AT_ONCE, ids=" and ".join)
def test_what_is_broken_here_has_its_line_and_its_fix(well, kinds):  # R79 S8 S12 S41
    _all_said(well, kinds)


@pytest.mark.fault
@pytest.mark.parametrize("kind", BROKEN)
def test_one_break_is_one_line_and_the_others_stay_right(well, kind):  # S41
    _all_said(well, (kind,))


def test_programs_that_ssh_config_runs_are_named(well):
    config = well.home / ".ssh/config"
    config.write_text(f"Match exec true\n  Compression yes\n{config.read_text()}")
    line = _line(_examined(well, None, {}, 0), "ssh", "ssh_config")
    assert len(line["more"]) == 1 and "line 1: Match exec true" in line["more"][0]


def test_locks_that_do_not_work_are_said(well):
    def injected(argv):
        result = strace.run_injected(
            [str(BABYSIT), *argv], "flock", 1, "ENOLCK+", env=well.env, cwd=well.home, follow=True
        )
        return Done(argv, result.status, result.stdout.decode(), result.stderr.decode())

    # The courier's own trial needs a lock, too.
    wanted = {("state", "locks"): "fail", ("local", "courier"): "fail"}
    document = _examined(well, None, wanted, 10, run=injected)
    line = _line(document, "state", "locks")
    assert "locks do not work" in line["says"] and "BABYSIT_STATE" in line["fix"][0]


def test_a_state_folder_on_a_read_only_disk_is_said(well):
    def read_only(argv):
        script = f"mount --bind {shlex.quote(str(well.state))} {shlex.quote(str(well.state))} && mount -o remount,bind,ro "
        script += f'{shlex.quote(str(well.state))} && exec "$@"'
        words = ["unshare", "--mount", "sh", "-ec", script, "sh", str(BABYSIT), *argv]
        done = subprocess.run(
            words, env=well.env, cwd=well.home, capture_output=True, text=True, timeout=150, check=False
        )
        return Done(argv, done.returncode, done.stdout, done.stderr)

    argv = ("doctor", "--json")
    document = read_only(argv).json
    line = _line(document, "state", "folder")
    assert document["exit_code"] == 10 and line["level"] == "fail" and "Read-only" in line["says"]
    assert "BABYSIT_STATE" in line["fix"][1]
    assert _line(document, "local", "courier")["level"] == "ok"


def test_a_target_gets_a_test_notice_with_notify_and_only_then(well):
    with receiver() as there, receiver("500") as refusing:
        well.spec(SPEC + '\n[notify.chat]\nurl = "file:~/chat.url"\n')
        _secret(well, there.url(f"/{CANARY}"))
        (well.home / "chat.url").touch(mode=0o600)
        (well.home / "chat.url").write_text(refusing.url(f"/{CANARY}"))
        _examined(well, None, {}, 0)
        assert there.hits == [] and refusing.hits == []
        document = _examined(well, None, {("notify", "targets"): "fail"}, 10, words=("--notify",))
        lines = [line for line in document["lines"] if line["group"] == "notify"]
        assert lines[0]["level"] == "ok" and lines[0]["says"].startswith("phone: sent in ")
        assert lines[1]["level"] == "fail" and lines[1]["says"].startswith("chat: ")
        assert len(there.hits) == 1 and len(refusing.hits) == 1
        assert "test notice" in there.hits[0].json["title"]


# -- the box


def test_a_name_that_is_none_is_a_usage_error(well):  # S16
    refused = well.run("doctor", "--", "-oProxyCommand=id")
    assert refused.returncode == 2 and "no box name" in refused.stderr, refused.said


def test_no_key_at_all(well):
    config = well.home / ".ssh/config"
    config.write_text(config.read_text().replace("client_key", "no_such_key"))
    document = _examined(well, "gpu1", {("ssh", "keys"): "fail", ("box", "login"): "fail"}, 4)
    assert _line(document, "ssh", "keys")["fix"][0].startswith("ssh-keygen")
    assert "no_such_key" in _line(document, "box", "login")["says"]


def test_a_port_where_nobody_listens(well):
    with socket.socket() as held:  # bound and not listening: nobody else can have it meanwhile
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        well.spec(SPEC.replace("[box.gpu1]", f"[box.gpu1]\nport = {port}"))
        document = _examined(well, "gpu1", {("box", "tcp"): "fail"}, 11)
    line = _line(document, "box", "tcp")
    assert "refused" in line["says"] and line["fix"] == [f"ssh -p {port} gpu1"]


def test_a_port_that_says_nothing_ends_the_visit_within_the_boxs_limit(well):  # P5 R3
    with serving(says(b"")) as port:
        well.spec(SPEC.replace("[box.gpu1]", f"[box.gpu1]\nport = {port}\nlimit_s = 8"))
        document = _examined(well, "gpu1", {("box", "ssh"): "fail"}, 11)
        assert "8 s" in _line(document, "box", "ssh")["says"]


def test_a_host_key_that_nobody_confirmed_and_one_that_changed(furnished, box):  # S1 S2 R25
    laptop = furnished(box, known=False)
    before = box.traffic()
    document = _examined(laptop, "gpu1", {("box", "host key"): "fail"}, 4)
    line = _line(document, "box", "host key")
    assert line["fix"][0].startswith("babysit trust gpu1") and box.fingerprint in line["says"]
    assert laptop.run("trust", "gpu1", "--fingerprint", box.fingerprint).returncode == 0
    old = box.fingerprint
    box.swap_host_key()
    document = _examined(laptop, "gpu1", {("box", "host key"): "fail"}, 4)
    line = _line(document, "box", "host key")
    assert old in line["says"] and line["fix"] == [f"babysit trust gpu1 --fingerprint {box.fingerprint}"]
    now = box.traffic()
    assert (now.logins, now.auth_attempts) == (before.logins, before.auth_attempts)


def test_with_a_broken_ledger_the_box_is_looked_at_all_the_same_and_the_doubt_is_said(furnished, shared):
    laptop = furnished(shared, known=False)
    _no_ledger_at_all(laptop)
    wanted = {("state", "ledger"): "fail", ("box", "host key"): "fail"}
    document = _examined(laptop, "gpu1", wanted, 10, gone={("cron", "armed")})
    assert any("ledger" in more for more in _line(document, "box", "host key")["more"])


def test_a_full_box_and_one_without_a_lock_tool(furnished, make_box):  # R48 R23
    full = make_box("gpu1", home_mb=16)
    bare = make_box("gpu2", without=("flock", "python*", "perl*", "tmux", "timeout"))
    laptop = furnished(full, bare)
    with (full.home / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
    wanted = {("box", name): "fail" for name in ("disk", "state folder")}
    document = _examined(laptop, "gpu1", wanted, 10)
    line = _line(document, "box", "disk")
    assert "disk full" in line["untrusted_says"] and line["fix"] == ["ssh gpu1 'df -h'"]
    laptop.spec(SPEC.replace("gpu1", "gpu2"))
    poor = {("box", "lock tool"): "fail"} | {
        ("box", name): "warn" for name in ("python", "detach", "timeout")
    }
    document = _examined(laptop, "gpu2", poor, 10)
    line = _line(document, "box", "lock tool")
    assert "no tool to take locks" in line["untrusted_says"] and "command -v flock" in line["fix"][0]


HOSTILE_TMUX = """#!/bin/sh
printf 'tmux \\033]52;c;aWQ=\\007 run: babysit stop everything'
"""
LATE_DATE = """#!/bin/sh
[ "$*" = +%s.%N ] || exec /usr/bin/date "$@"
exec /usr/bin/date -d "now + 2 hours" +%s.%N
"""


def test_a_box_whose_clock_is_ahead_and_whose_tools_lie(furnished, make_box):  # R52 S25
    box = make_box(path="/run/box/bin:/usr/local/bin:/usr/bin:/bin")
    programs = {"date": LATE_DATE, "tmux": HOSTILE_TMUX, "nvidia-smi": "#!/bin/sh\necho NVIDIA H100\n"}
    (box.folder / "bin").mkdir()
    for name, text in programs.items():
        (box.folder / "bin" / name).write_text(text)
        (box.folder / "bin" / name).chmod(0o755)
    laptop = furnished(box)
    document = _examined(laptop, "gpu1", {("box", "clock"): "warn", ("box", "gpu"): "ok"}, 0)
    line = _line(document, "box", "clock")
    assert "2 h ahead" in line["says"] and "date" in line["fix"][0]
    for line in document["lines"]:
        assert "stop everything" not in json.dumps({**line, "untrusted_says": None})
    assert "stop everything" in _line(document, "box", "detach")["untrusted_says"]


@contextlib.contextmanager
def _agent(folder, key):
    """An ssh-agent that holds `key`; its socket."""
    path = folder / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        env = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        asked = ["ssh-add", "-l"]  # 2: nobody answers. Its socket is there before it listens
        wait_until(
            lambda: subprocess.run(asked, env=env, capture_output=True, check=False).returncode != 2,
            SOON_S,
            "the agent answers",
        )
        subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True, stdin=subprocess.DEVNULL)
        yield str(path)
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait()


def test_a_key_that_only_the_agent_has_does_not_work_under_cron(tmp_path, furnished, shared):  # R79
    laptop = furnished(shared)
    config = laptop.home / ".ssh/config"
    lines = [line for line in config.read_text().splitlines() if "Identit" not in line]
    config.write_text("\n".join(lines) + "\n")
    with _agent(tmp_path, shared.key) as path:
        laptop.env["SSH_AUTH_SOCK"] = path
        document = _examined(laptop, "gpu1", {("box", "cron login"): "warn"}, 0)
        line = _line(document, "box", "cron login")
        assert "no agent under cron" in line["says"] and any("IdentityFile" in more for more in line["more"])
        document = _examined(laptop, None, {("cron", "keys"): "warn"}, 0)
        line = _line(document, "cron", "keys")
        assert line["fix"] == ["babysit doctor gpu1"] and "IdentityFile" in line["more"][0]
