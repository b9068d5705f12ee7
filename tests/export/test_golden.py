"""Checkpoints that the originals made give the originals' ids and vectors after our export.

golden/encode holds, for each case, a checkpoint saved by colbert-ai, PyLate or Sentence-Transformers and what that
package answered; `tools.golden` writes it.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from refcolbert.encoder import Encoder
from refcolbert_export.folder import export_checkpoint

GOLDEN = Path(__file__).parents[2] / "golden" / "encode"
CASES = sorted(path.name for path in GOLDEN.iterdir() if (path / "expected.json").is_file())


@pytest.mark.parametrize("case", CASES)
def test_the_export_equals_the_original(case, tmp_path):
    """Ids, attention and kept rows are equal and vectors within 1e-5 when the original's checkpoint is exported."""
    export_checkpoint(GOLDEN / case / "checkpoint", tmp_path / "out")
    encoder = Encoder.load(tmp_path / "out")
    expected = json.loads((GOLDEN / case / "expected.json").read_text())
    vectors = np.load(GOLDEN / case / "expected.npz")
    sides = {
        "query": (encoder.tokenizer.queries, encoder.encode_queries),
        "document": (encoder.tokenizer.documents, encoder.encode_documents),
    }
    for side, (tokenize, encode) in sides.items():
        for i, (text, tokens) in enumerate(zip(expected["texts"][side], expected["tokens"][side], strict=True)):
            (ours,) = tokenize([text])
            assert ours.ids.tolist() == tokens["ids"], (side, text)
            assert ours.attention.astype(int).tolist() == tokens["attention"], (side, text)
            assert np.flatnonzero(ours.keep).tolist() == tokens["kept"], (side, text)
            if tokens["kept"]:
                np.testing.assert_allclose(next(iter(encode([text]))), vectors[f"{side}_{i}"], atol=1e-5, rtol=0)
