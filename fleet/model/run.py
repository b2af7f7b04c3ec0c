"""One launched job, with the identities that tell its records and processes from all others."""

from msgspec import Struct

from fleet.model.spec import BoxSpec, RunSpec


class Run(Struct, frozen=True):
    """One armed job through all its attempts, as the ledger keeps it.

    `nonce` (32 hex digits) is what markers and end records must carry; it is written to one 0600 file
    on the box and never to an environment, an argument or a log. `tag` is run id and a hash of the
    nonce; stages carry it in their environment. `box_id` is the box's own random id, None until the
    first answer. `armed_at` is host time, epoch seconds. `superseded_by` names the newer run of the
    same name. `disarmed_at` is when its owner said that nothing shall watch it any more; the run goes on.
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

    @property
    def name(self) -> str:
        """The name its owner gave it."""
        return self.spec.name
