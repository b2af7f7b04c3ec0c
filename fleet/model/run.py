"""One launched job, with the identities that tell its records and processes from all others."""

from msgspec import Struct

from fleet.model.spec import BoxSpec, RunSpec


class CodeFile(Struct, frozen=True):
    """One file of a run's code: `digest` is `sha256:HEX` or `cksum:SUM-SIZE`; None: not hashed, see `why`."""

    path: str
    digest: str | None
    why: str = ""


class Code(Struct, frozen=True):
    """The code that attempt `attempt` was started with, as its box showed it just before.

    `folder` is the box's path of the folder that git and the files were looked at in. `commit` is git's full
    id; None: `git_why` says why there is none. `dirty` None: it could not be told. `hasher` is the tool that
    hashed, None where the box has none. `left_out` counts matches beyond what one look hashes. `globs` are
    those of the run's owner. Paths and folder are the box's text, untrusted.
    """

    attempt: int
    folder: str
    commit: str | None = None
    dirty: bool | None = None
    git_why: str = ""
    hasher: str | None = None
    files: tuple[CodeFile, ...] = ()
    left_out: int = 0
    globs: tuple[str, ...] = ()


class Run(Struct, frozen=True):
    """One armed job through all its attempts, as the ledger keeps it.

    `nonce` (32 hex digits) is what markers and end records must carry; it is written to one 0600 file
    on the box and never to an environment, an argument or a log. `tag` is run id and a hash of the
    nonce; stages carry it in their environment. `box_id` is the box's own random id, None until the
    first answer. `armed_at` is host time, epoch seconds. `superseded_by` names the newer run of the
    same name. `disarmed_at` is when its owner said that nothing shall watch it any more; the run goes on.
    `code` is what the newest attempt that was started from here ran, None where nobody looked.
    """

    run_id: str
    spec: RunSpec
    box: BoxSpec
    nonce: str
    tag: str
    chain: str
    spec_digest: str
    armed_at: float
    box_id: str | None = None
    launched: bool = False
    superseded_by: str | None = None
    disarmed_at: float | None = None
    code: Code | None = None

    @property
    def name(self) -> str:
        """The name its owner gave it."""
        return self.spec.name
