"""Writes tests/golden/mrope/*.npz: what transformers computes, in fp64, for the prompts of tests/golden_images.py.

Run from the repository root, with the [oracle] extra installed: PYTHONPATH=tests python tests/golden/make_mrope.py
"""

import numpy as np
import transformers_oracle
from golden_images import IMAGE_PAD, MERGE, MROPE, N_TOKENS, NAMES, PROMPT, prompt
from golden_models import CONFIGS, random_weights, seed_of

# Both sides of every image and of a chunk of 64, and the end.
ROWS = np.array([0, 49, 50, 63, 64, 84, 85, 88, 89, 128, 129, 130, 131, N_TOKENS - 3, N_TOKENS - 2, N_TOKENS - 1])


def main() -> None:
    grids = [(1, *part) for part in PROMPT if not isinstance(part, int)]
    for name in NAMES:
        tokens, inputs = prompt(name)
        positions, delta = transformers_oracle.rope_index([token == IMAGE_PAD for token in tokens], grids, MERGE)
        model = transformers_oracle.build(random_weights(CONFIGS[name], seed_of(name)), CONFIGS[name])
        places = {rows.first: rows.embeddings for rows in inputs}
        logits = transformers_oracle.mixed_logits(model, tokens, places, positions)[ROWS]
        np.savez_compressed(MROPE / f"{name}.npz", positions=positions, rope_delta=delta, rows=ROWS, logits=logits)


if __name__ == "__main__":
    main()
