"""Writes tests/golden/logits/*.npz: what transformers computes, in fp64, for the models of tests/golden_models.py.

Run from the repository root, with the [oracle] extra installed: PYTHONPATH=tests python tests/golden/make_logits.py
"""

import numpy as np
import transformers_oracle
from golden_models import CONFIGS, LOGITS, N_TOKENS, prompt, random_weights, seed_of

# The start of a sequence, both sides of chunk and page borders, and its end.
ROWS = np.array([0, 1, 2, 3, 62, 63, 64, 65, 127, 128, 255, 256, 257, N_TOKENS - 1])


def main() -> None:
    for name, config in CONFIGS.items():
        weights = random_weights(config, seed_of(name))
        tokens = prompt(config, seed_of(name))
        model = transformers_oracle.build(weights, config)
        arrays = {"tokens": np.array(tokens), "rows": ROWS, "logits": transformers_oracle.logits(model, tokens)[ROWS]}
        if config.mtp_layers:
            drafts = transformers_oracle.draft_logits(model, weights, config, [*tokens, 0])
            arrays["draft_logits"] = drafts[ROWS]
        np.savez_compressed(LOGITS / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
