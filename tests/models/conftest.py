"""Puts tests/ on the import path, for `golden_models` and `transformers_oracle`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

# The matrices here are small: more BLAS threads would only wait for each other. Acts when numpy is not yet loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
