"""Lets the tests of this folder import the modules beside them that are no tests, such as `rank_runs`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
