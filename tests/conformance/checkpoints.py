"""Cases of trained checkpoints: golden/encode has one folder per checkpoint with the vectors of the original package.

`encoder_of(folder)` gives an encoder as texts.py describes it. For a layout that an engine does not read it raises
NotImplementedError; the case is then reported as "not offered" and does not fail.
"""

import json

import numpy as np

from .goldens import GOLDEN
from .registry import NotOffered, case

ORIGINALS = {"stanford": "colbert ai", "pylate": "pylate", "multivector": "sentence transformers"}


def folders(prefix):
    """The folders of the checkpoints that one package has saved."""
    return sorted(path.parent for path in (GOLDEN / "encode").glob(f"{prefix}-*/expected.json"))


def _layout(prefix, original):
    """Register one case for all checkpoints of one layout."""

    def the_vectors_are_the_originals(impl):
        about = json.loads((GOLDEN / "encode" / f"{prefix}.json").read_text())
        for folder in folders(prefix):
            try:
                encoder = impl.encoder_of(folder / "checkpoint")
            except NotImplementedError as error:
                raise NotOffered(f"encoder_of: {error}") from error
            texts = json.loads((folder / "expected.json").read_text())["texts"]
            with np.load(folder / "expected.npz") as originals:
                for side, encode in (("query", encoder.queries), ("document", encoder.documents)):
                    with_rows = [i for i in range(len(texts[side])) if len(originals[f"{side}_{i}"])]
                    for i, rows in zip(with_rows, encode([texts[side][i] for i in with_rows]), strict=True):
                        expected, where = originals[f"{side}_{i}"], f"{folder.name}, {side} {texts[side][i]!r}"
                        assert np.shape(rows) == expected.shape, f"{where}: {np.shape(rows)}, not {expected.shape}"
                        off = float(np.abs(np.asarray(rows, np.float64) - expected).max(initial=0))
                        assert off <= about["tolerance"]["vectors"], f"{where}: off by {off}"

    the_vectors_are_the_originals.__name__ = f"a_checkpoint_of_{original.replace(' ', '_')}_gives_its_vectors"
    the_vectors_are_the_originals.__doc__ = (
        "Each kept row is that of the original to 1e-4; a text without a kept row is left out."
    )
    case("46", "encoder_of", equation="1")(the_vectors_are_the_originals)


for _prefix, _original in ORIGINALS.items():
    _layout(_prefix, _original)
