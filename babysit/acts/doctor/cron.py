"""Does it work with nobody there: what cron would start, as cron starts it, and whether anything watches."""

from collections.abc import Iterator
from pathlib import Path

from babysit.acts.doctor.ground import Ground
from babysit.acts.doctor.lines import Check, Found, fail, ok, warn
from babysit.acts.doctor.ssh import way_to
from fleet.errors import BabysitError
from fleet.link.child import run
from fleet.text.quote import sh

_STATUS_S = 18.0
CRON_PATH = "/usr/bin:/bin"  # Source: crontab(5), what cron sets by itself
NO_AGENT = "there is no ssh-agent under cron: set IdentityFile to a key without a passphrase"


def environment() -> dict[str, str]:
    """What cron gives a job: no PATH of yours, no agent, no terminal, no language."""
    return {"PATH": CRON_PATH, "HOME": str(Path.home()), "SHELL": "/bin/sh", "LANG": "C"}


def program(ground: Ground) -> Iterator[Found]:
    """The babysit that a crontab would name starts there and reads the ledger."""
    path = ground.program
    if not path.is_file():
        yield fail(f"cannot tell where babysit is installed ({path})", "command -v babysit")
        return
    line = f"BABYSIT_STATE={sh(str(ground.place.folder))} exec {sh(str(path))} status"
    ended = run(["/bin/sh", "-c", line], limit_s=_STATUS_S, env=environment())
    if ended.status is None:
        yield fail(
            f"{path} status did not end within {_STATUS_S:g} s under cron", f"env -i {sh(str(path))} status"
        )
    elif ended.status and ground.unread is None:
        yield fail(
            f"{path} status fails under cron: {ended.said}", f"env -i HOME=$HOME {sh(str(path))} status"
        )
    elif ended.status:
        yield ok(f"{path} starts there; the ledger is another matter")
    else:
        yield ok(f"{path} works with PATH={CRON_PATH}, no agent, no terminal, LANG=C")


def keys(ground: Ground) -> Iterator[Found]:
    """Each box has a key that needs neither agent nor passphrase; the box that was named is really tried."""
    boxes = [box for box in ground.boxes if ground.box is None or box.name != ground.box.name]
    fine = []
    for box in boxes:
        try:
            way = way_to(box)
        except BabysitError:
            continue  # said under ssh
        if way.open_files:
            fine.append(box.name)
        elif way.held:
            yield warn(
                f"{box.name}: only the agent has its key", f"babysit doctor {sh(box.name)}", more=(NO_AGENT,)
            )
    if fine:
        yield ok(f"a key without a passphrase for {', '.join(fine)}")


def targets(ground: Ground) -> Iterator[Found]:
    """No notice depends on a variable that cron does not have."""
    found = ground.place.spec.targets.values()
    bare = [target for target in found if target.url.startswith("env:")]
    for target in bare:
        variable = target.url.partition(":")[2]
        says = f"notify.{target.name}: cron does not know {target.url}"
        more = (f'then write url = "file:~/.config/babysit/{target.name}.url"',)
        file = f"~/.config/babysit/{target.name}.url"
        command = f"(umask 077; mkdir -p ~/.config/babysit; printenv {sh(variable)} >{file})"
        yield warn(says, command, more=more)
    if found and not bare:
        yield ok("every address comes from a file")


def armed(ground: Ground) -> Iterator[Found]:
    """Something watches: a trigger that was seen to fire, or a waiter that lives."""
    if ground.unread is not None:
        return
    if ground.fires:
        yield ok("; ".join(ground.fires))
    elif ground.runs:
        yield warn("nothing watches your runs", "babysit crontab")
    else:
        yield warn("nothing watches; there is no open run yet either", "babysit crontab")


CHECKS: tuple[Check[Ground], ...] = (
    Check("cron", "program", program),
    Check("cron", "keys", keys),
    Check("cron", "targets", targets),
    Check("cron", "armed", armed),
)
