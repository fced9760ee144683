"""Makes the helpers of this room and the studies in analyses/ importable for the tests here."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE.parents[1] / "analyses"))  # last: a study must not stand in for a package
