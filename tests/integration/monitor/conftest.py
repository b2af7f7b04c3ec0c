import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # rig.py, as the tests here share it
