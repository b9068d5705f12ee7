"""Differences between releases, which the parity check cannot see because both of its paths run the installed one."""

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from refcolbert.encoding.encoder import Encoder
from refcolbert.errors import InvalidInput, ParityError

from ..tensors import read_json
from .awkward_texts import FIXED
from .reference import quiet
from .report import Tolerance, distance, long_texts_expected

__all__ = ["compare_expected", "drift", "drift_note"]


def drift(folder: Path, trust_remote_code: bool = False) -> dict[str, Any]:
    """The part of the report about releases of transformers, for the transformer in `folder`.

    saved_with       the release that saved it, as its config.json says; None when it does not say
    tokenizer_drift  names of awkward texts to which tokenizer.json gives other ids than transformers' tokenizer class.
                     The class of another release may have given the ids with which the model was trained.
    """
    saved = read_json(folder / "config.json").get("transformers_version")
    path = folder / "tokenizer.json"
    if not path.is_file():
        return {"saved_with": saved, "tokenizer_drift": []}
    plain = Tokenizer.from_file(str(path))
    plain.no_truncation()
    plain.no_padding()
    with quiet():
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        texts = [name for name, text in FIXED.items() if tokenizer(text)["input_ids"] != plain.encode(text).ids]
    return {"saved_with": saved, "tokenizer_drift": texts}


def drift_note(report: dict[str, Any]) -> str:
    """The warning for a report whose tokenizer_drift is not empty."""
    texts = report["tokenizer_drift"]
    return (
        f"the tokenizer class of transformers {report['transformers']} gives other ids than the checkpoint's "
        f"tokenizer.json to {len(texts)} of {len(FIXED)} awkward texts ({', '.join(texts[:4])}). The checkpoint was "
        f"saved with transformers {report['saved_with']}, whose vectors may differ; --expected compares them"
    )


@long_texts_expected()
def compare_expected(folder: Path, file: Path, tolerance: Tolerance) -> dict[str, Any]:
    """Compare the model folder with vectors of its author and return the number of texts and the worst difference.

    `file` is a .npz with `query_texts` and `document_texts`, arrays of texts, either of them optional, and the unit
    rows of text i as `query_i` and `document_i`, [n_rows, dim]. Their rounding is allowed besides the tolerance.
    Raises `InvalidInput` for another content, and `ParityError` naming a text whose vectors differ.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        sides = {side: [str(text) for text in arrays.pop(f"{side}_texts", ())] for side in ("query", "document")}
        rows = {(side, i): arrays.pop(f"{side}_{i}") for side, texts in sides.items() for i in range(len(texts))}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InvalidInput(f"expected texts and their vectors in {file}, found: {error}") from error
    if arrays or not rows:
        raise InvalidInput(f"expected query_texts or document_texts, and one array per text, found {sorted(arrays)}")
    encoder = Encoder(folder)
    encodes: dict[str, Any] = {"query": encoder.encode_queries, "document": encoder.encode_documents}
    entries = []
    for (side, i), theirs in rows.items():
        (ours,) = encodes[side]([sides[side][i]])  # [n_rows, dim]
        entry = distance(ours, theirs)
        if tolerance.rounded(theirs.dtype).refuses(entry):
            raise ParityError(
                f"{side} {sides[side][i]!r}: expected the vectors of {file.name}, {theirs.shape}, found {ours.shape} "
                f"that differ by {entry['max_abs']:.2e} (cosine {entry['min_cosine']:.6f})"
            )
        entries.append(entry)
    worst = {"max_abs": max(e["max_abs"] for e in entries), "min_cosine": min(e["min_cosine"] for e in entries)}
    return {"file": file.name, "texts": len(entries), "worst": worst}
