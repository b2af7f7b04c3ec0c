"""Where babysit keeps things on this machine. Names only: nothing is made or read here."""

import os
from pathlib import Path

from platformdirs import user_config_path, user_state_path


def state_folder() -> Path:
    """The folder of the ledger and its locks: `$BABYSIT_STATE`, else `babysit` in the XDG state home."""
    moved = os.environ.get("BABYSIT_STATE")
    return Path(moved).expanduser().absolute() if moved else user_state_path("babysit")


def config_file() -> Path:
    """The user's own spec, read where no babysit.toml lies nearer; it need not exist."""
    return user_config_path("babysit") / "babysit.toml"
