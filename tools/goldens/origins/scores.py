"""Scores of pairs by an adapter of tools.conformance: python -m tools.goldens.origins.scores IN.npz OUT.npz MODULE."""

import importlib
import importlib.metadata
import json
import sys

import numpy as np


def main() -> None:
    """q_NAME and d_NAME give score_NAME; the last line printed says the versions."""
    given, module = dict(np.load(sys.argv[1])), importlib.import_module(sys.argv[3])
    names = [key[2:] for key in given if key.startswith("q_")]
    scores = {f"score_{n}": np.float64(module.maxsim(given[f"q_{n}"], given[f"d_{n}"])) for n in names}
    np.savez(sys.argv[2], allow_pickle=False, **scores)
    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    wanted = ("pylate", "colbert-ai", "sentence-transformers", "torch", "numpy")
    print(json.dumps({name: packages[name] for name in wanted if name in packages}))


if __name__ == "__main__":
    main()
