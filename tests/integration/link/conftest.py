"""The rigs of the night are used here too: a laptop, and a job with its own account."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "night"))
