"""What a handbook is made of: one frozen value, gathered from what the ledger and the link know. Pure."""

import re

from msgspec import Struct

from fleet.ledger.rows import Event
from fleet.model.run import Run
from fleet.model.spec import DEFAULT_STATE_DIR
from fleet.model.verdict import Verdict

DEFAULT_PORT = 22

# What may stand in a command or a path of the page besides quoted words. An adopted run comes from a
# box, so its names are looked at here once more.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ADDRESS = re.compile(r"[^\s\x00-\x1f\x7f@-][^\s\x00-\x1f\x7f@]*")
_LOGIN = re.compile(r"[^\s\x00-\x1f\x7f@-][^\s\x00-\x1f\x7f]*")  # a directory's users may hold an @


class StageFacts(Struct, frozen=True):
    """One stage: `file` is NN-NAME, by which its command and its marker are kept on the box.

    `monitor`: its memory and CPU are watched there.
    """

    file: str
    command: str
    monitor: bool = False


class HandbookFacts(Struct, frozen=True):
    """Everything that a handbook says, and nothing that is secret: no nonce, no tag, no notify address.

    `host` is what one connects to, `alias` what the owner's ssh_config calls it. `identity` is a path,
    `~/…` where it lies under the owner's home. `folder` is the run's folder on the box. `fingerprint`
    is that of the pinned host key, None when none is pinned yet. `verdict` is the newest one, None
    before the first. `armed` are triggers as they were seen to fire; empty: nothing watches. `way` is the
    line of ssh_config that leads there over another machine, None where TCP does. `events` are the newest
    things that happened.
    """

    run_id: str
    name: str
    box: str
    host: str
    port: int
    user: str | None
    alias: str
    identity: str | None
    fingerprint: str | None
    state_dir: str | None
    folder: str
    chain: str
    stages: tuple[StageFacts, ...]
    cwd: str | None
    artifacts: tuple[str, ...]
    results: tuple[str, ...]
    budget: int
    armed_at: float
    launched: bool
    superseded_by: str | None
    verdict: Verdict | None
    armed: tuple[str, ...]
    way: str | None = None
    events: tuple[Event, ...] = ()


def facts(
    run: Run,
    *,
    host: str,
    port: int | None = None,
    user: str | None = None,
    identity: str | None = None,
    home: str | None = None,
    fingerprint: str | None = None,
    verdict: Verdict | None = None,
    armed: tuple[str, ...] = (),
    way: str | None = None,
    events: tuple[Event, ...] = (),
) -> HandbookFacts:
    """The facts of one run. `host` to `identity` are the resolved address, `home` the owner's home folder.

    Raises ValueError for a name, host, user or fingerprint that could pass for something else in a command.
    """
    spec = run.spec
    for word in (run.run_id, spec.name, run.box.name, run.chain, *(stage.name for stage in spec.stages)):
        if not _WORD.fullmatch(word):
            raise ValueError(f"not a name: {word!r}")
    for part, shape in ((host, _ADDRESS), (user, _LOGIN), (fingerprint, _ADDRESS)):
        if part is not None and not shape.fullmatch(part):
            raise ValueError(f"not a part of an address: {part!r}")
    state_dir = (run.box.state_dir or "").rstrip("/") or None
    return HandbookFacts(
        run_id=run.run_id,
        name=spec.name,
        box=run.box.name,
        host=host,
        port=DEFAULT_PORT if port is None else port,
        user=user,
        alias=run.box.host,
        identity=None if identity is None else portable(identity, home),
        fingerprint=fingerprint,
        state_dir=None if state_dir == DEFAULT_STATE_DIR else state_dir,
        folder=f"{state_dir or DEFAULT_STATE_DIR}/runs/{run.run_id}",
        chain=run.chain,
        stages=tuple(
            StageFacts(f"{number:02d}-{stage.name}", stage.command, stage.monitor)
            for number, stage in enumerate(spec.stages, 1)
        ),
        cwd=spec.cwd,
        artifacts=spec.artifacts,
        results=spec.results,
        budget=(verdict.budget if verdict else None) or spec.budget,
        armed_at=run.armed_at,
        launched=run.launched,
        superseded_by=run.superseded_by,
        verdict=verdict,
        armed=armed,
        way=way,
        events=events,
    )


def portable(path: str, home: str | None) -> str:
    """`path` as `~/…` when it lies under `home`, so that it means the same to the next owner; else itself."""
    root = (home or "").rstrip("/") + "/"
    return f"~/{path[len(root) :]}" if len(root) > 1 and path.startswith(root) else path
