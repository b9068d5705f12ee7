"""BM25 scores by bm25s: python -m tools.goldens.origins.words IN.npz OUT.npz."""

import importlib.metadata
import json
import sys

import numpy as np

from tools.conformance.bm25s import word_scores


def main() -> None:
    """Words of `queries` and `documents` are separated by spaces; the last line printed says the versions."""
    given = np.load(sys.argv[1])
    documents = [str(text).split() for text in given["documents"]]
    scores = [word_scores(str(query).split(), documents) for query in given["queries"]]
    np.savez(sys.argv[2], allow_pickle=False, scores=np.array(scores))
    print(json.dumps({name: importlib.metadata.version(name) for name in ("bm25s", "numpy")}))


if __name__ == "__main__":
    main()
