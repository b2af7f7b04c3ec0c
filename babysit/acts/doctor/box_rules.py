"""The checks of one box: each reads what one visit brought back. Pure; arm's own rules say what it lacks."""

from collections.abc import Callable, Iterator

from babysit.acts.doctor.box import STEPS, BoxSeen
from babysit.acts.doctor.cron import NO_AGENT
from babysit.acts.doctor.lines import Check, Found, fail, of_error, ok, warn
from fleet.arming.preflight import BoxReport
from fleet.arming.preflight_rules import REFUSALS, REMARKS, Asked
from fleet.errors import BabysitError, BoxRefused, LinkError, ProbeUnreadable
from fleet.link.address import Address
from fleet.model.probe import Cause
from fleet.model.spec import RunSpec
from fleet.text.quote import sh
from fleet.text.say import size

_Look = Callable[[BoxSeen], Iterator[Found]]
_NOBODYS_RUN = RunSpec(name="doctor", stages=())
_LINK_CODES = (4, 11, 12)
# What was answered instead, by the box or on the way to it, may stand in the sentence of these.
_THEIR_WORDS = (Cause.PROTOCOL, Cause.WEAK, Cause.WAY, Cause.WAY_AUTH, Cause.WAY_HOSTKEY, Cause.UNREADABLE)


def step(name: str, says: Callable[[BoxSeen], str]) -> _Look:
    """The check of one step of the visit: what it says where that was passed, nothing beyond the end."""

    def look(seen: BoxSeen) -> Iterator[Found]:
        mine, end = STEPS.index(name), STEPS.index(seen.step) if seen.trouble else len(STEPS)
        if mine < end:
            yield ok(says(seen))
        elif mine == end and seen.trouble is not None:
            doubts = seen.doubts if name in ("address", "host key") else ()
            yield _failed(seen.trouble, doubts)

    return look


def _failed(trouble: BabysitError, doubts: tuple[str, ...]) -> Found:
    code = trouble.exit_code if trouble.exit_code in _LINK_CODES else 10
    cause = trouble.away.cause if isinstance(trouble, LinkError) else None
    if cause not in _THEIR_WORDS and not isinstance(trouble, ProbeUnreadable | BoxRefused):
        return of_error(trouble, more=doubts, exit_code=code)
    theirs = f"{trouble.what} ({trouble.hint})" if trouble.hint else trouble.what
    return fail("it does not go on from here", *trouble.next, untrusted=theirs, exit_code=code)


def fact(about: str, says: Callable[[BoxReport], tuple[str, str]]) -> _Look:
    """The check of one thing the box has: what arm refuses fails, what arm remarks warns, else `says`.

    `says` gives our words, and the box's own.
    """

    def look(seen: BoxSeen) -> Iterator[Found]:
        if seen.report is None or seen.address is None:
            return
        asked = Asked(seen.report, _NOBODYS_RUN, seen.box)
        refused = [row for row in REFUSALS if row.about == about and row.when(asked)]
        for row in refused:
            fix = row.next(asked)[:1]
            yield fail("arm would refuse this box", *fix, untrusted=f"{row.what(asked)} ({row.hint(asked)})")
        remarks = [row for row in REMARKS if row.about == about and row.when(asked)]
        for remark in remarks:
            yield warn(remark.says(asked), *_remedy(about, seen.address))
        if not refused and not remarks:
            ours, theirs = says(seen.report)
            yield ok(ours, untrusted=theirs)

    return look


# What helps against a remark, as a line to type on the box; the others have no command.
REMEDIES = {
    "detach": "sudo apt-get install tmux",
    "python": "sudo apt-get install python3",
    "bash": "sudo apt-get install bash",
    "timeout": "sudo apt-get install coreutils",
    "gpu": "nvidia-smi",
    "login shell": "cat ~/.bashrc",
    "clock": "date; timedatectl",
    "state folder": "df -hT",
}


def _remedy(about: str, address: Address) -> tuple[str, ...]:
    return (f"{address.by_hand} {sh(REMEDIES[about])}",)


def _address(seen: BoxSeen) -> str:
    found = seen.address
    return "" if found is None else f"{found.host} port {found.port} as {found.user}"


def _host_key(seen: BoxSeen) -> str:
    key = seen.host_key
    if key is None:  # the login came to nothing, or a certificate authority vouched
        return "known_hosts or a pin vouches for it"
    return (
        f"{key.fingerprint}, {'pinned' if seen.pinned else 'in your known_hosts; the first command pins it'}"
    )


def _key_exchange(seen: BoxSeen) -> Iterator[Found]:
    """Both sides count the messages of the key exchange: none can be cut out. Source: CVE-2023-48795."""
    if seen.strict_kex is False:
        more = ("whoever sits on the line could cut messages out of its beginning unseen",)
        yield warn("its sshd is older than strict key exchange", *_on_it(seen, "ssh -V"), more=more)
    elif seen.strict_kex:
        yield ok("strict")


def _on_it(seen: BoxSeen, command: str) -> tuple[str, ...]:
    return () if seen.address is None else (f"{seen.address.by_hand} {sh(command)}",)


def _login(seen: BoxSeen) -> str:
    return f"in after {seen.connected_s or 0.0:.2f} s"


def _answer(seen: BoxSeen) -> str:
    took_s = seen.report.took_s if seen.report else 0.0
    return f"one round trip {(seen.turn_s or 0.0) * 1000:.0f} ms, all facts in {took_s:.1f} s"


def _box_id(seen: BoxSeen) -> Iterator[Found]:
    """The box is the one that its runs were armed on."""
    yield from fact("box id", lambda _: ("it has one; a recycled box would show another", ""))(seen)
    if seen.report is None or seen.report.box_id is None:
        return
    strangers = [run.name for run in seen.runs if run.box_id not in (None, seen.report.box_id)]
    if strangers:
        says = f"this is not the machine that {', '.join(strangers)} was armed on"
        yield fail(
            says, "babysit patrol --once", more=("its id is another one: a recycled box, or a lost home",)
        )


def _cron(seen: BoxSeen) -> Iterator[Found]:
    """A login as cron would do it."""
    if seen.cron is None:
        return
    if seen.cron.trouble is None:
        yield ok("the login works without agent and terminal")
    elif seen.cron.auth:
        file = f"no agent under cron: {seen.cron.trouble}"
        yield warn(file, "ssh-keygen -t ed25519 -N '' -f ~/.ssh/babysit", more=(NO_AGENT,))
    else:
        yield warn(f"under cron: {seen.cron.trouble}", *seen.cron.next)


def _figure(count: int | None, shown: str) -> tuple[str, str]:
    return (shown, "") if count is not None else ("the box counts none", "")


CHECKS: tuple[Check[BoxSeen], ...] = (
    Check("box", "address", step("address", _address)),
    Check("box", "tcp", step("tcp", lambda _: "the port answers")),
    Check("box", "ssh", step("ssh", lambda _: "it greets and exchanges keys")),
    Check("box", "host key", step("host key", _host_key)),
    Check("box", "key exchange", _key_exchange),
    Check("box", "login", step("login", _login)),
    Check("box", "answer", step("answer", _answer)),
    Check("box", "clock", fact("clock", lambda r: (f"{r.skew_s:+.1f} s from here", ""))),
    Check("box", "disk", fact("disk", lambda r: _figure(r.free_bytes, f"{size(r.free_bytes or 0)} free"))),
    Check("box", "inodes", fact("inodes", lambda r: _figure(r.free_inodes, f"{r.free_inodes} free"))),
    Check("box", "state folder", fact("state folder", lambda r: ("can be written", r.state_dir))),
    Check("box", "lock folder", fact("lock folder", lambda r: ("on a disk of its own", r.lock_fs or ""))),
    Check("box", "lock tool", fact("lock tool", lambda r: ("there", r.lock_tool or ""))),
    Check("box", "detach", fact("detach", lambda r: ("a run outlives its login", r.tmux or ""))),
    Check("box", "timeout", fact("timeout", lambda _: ("there", ""))),
    Check("box", "bash", fact("bash", lambda r: ("there", r.bash or ""))),
    Check("box", "python", fact("python", lambda r: ("there", r.python_version or ""))),
    Check("box", "gpu", fact("gpu", lambda r: (f"{len(r.gpus or ())} seen", ", ".join(r.gpus or ())))),
    Check("box", "login shell", fact("login shell", lambda _: ("prints nothing of its own", ""))),
    Check("box", "box id", _box_id),
    Check("box", "cron login", _cron),
)
