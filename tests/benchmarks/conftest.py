from __future__ import annotations

import sys
from pathlib import Path

# Scripts, not a package. At the end: one of them is called as the folder of tests of `samnet.training` is.
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
