"""The bi-encoder in ONNX Runtime: a sentence encoder with mean pooling, one unit vector a text.

`export_sentences` writes the folder that `Sentences` runs, from Sentence-Transformers' layout:

    model.onnx       input_ids, attention_mask [batch, length] int64 -> vectors [batch, dim] float32, unit rows
    tokenizer.json   as it came

It is `refcolbert_export.mining.teachers.BiEncoder` without torch; a test holds the two together.
"""

import hashlib
import shutil
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from refcolbert.arrays import Floats

__all__ = ["LENGTH", "Sentences", "export_sentences"]


LENGTH = 256  # tokens at which all-MiniLM-L6-v2's own settings cut
BATCH_TOKENS = 2048


def export_sentences(source: Path, out: Path) -> None:
    """Write the folder `out` from the sentence encoder `source`; one that is there stays."""
    if (out / "model.onnx").is_file():
        return
    import torch
    from transformers import AutoModel

    from refcolbert_export.graph.to_onnx import OPSET

    class Pooled(torch.nn.Module):
        """States -> their mean over the text's tokens, normalized."""

        def __init__(self) -> None:
            super().__init__()
            self.model: Any = AutoModel.from_pretrained(
                source, attn_implementation="eager", add_pooling_layer=False, dtype=torch.float32
            )

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            sums = (states * mask[..., None]).sum(dim=1)  # [batch, dim]; the norm takes away the division
            return torch.nn.functional.normalize(sums, dim=1)

    ids = torch.full((2, 7), 5, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0  # so that no branch for an all-ones mask is traced
    axes = {0: "batch", 1: "length"}
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "tokenizer.json", out / "tokenizer.json")
    with tempfile.TemporaryDirectory(dir=out) as folder, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer notes about Python branches; the test at other shapes is the judge
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            Pooled().eval(),
            (ids, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["vectors"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "vectors": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
        path.replace(out / "model.onnx")


class Sentences:
    """An exported sentence encoder. `threads` limits ONNX Runtime's; None: one a core."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder = folder
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        model = (folder / "model.onnx").read_bytes()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.hash = hashlib.sha256(model + (folder / "tokenizer.json").read_bytes()).hexdigest()

    def lengths(self, texts: Sequence[str], length: int = LENGTH) -> list[int]:
        """Tokens of each text, after the cut."""
        return [len(ids) for ids in self._ids(texts, length)]

    def encode(self, texts: Sequence[str], length: int = LENGTH) -> Floats:
        """Unit rows [n_texts, dim] in the order of the texts, each text cut at `length` tokens; nothing is padded."""
        ids = self._ids(texts, length)
        by_length: defaultdict[int, list[int]] = defaultdict(list)
        for i, tokens in enumerate(ids):
            by_length[len(tokens)].append(i)
        out: dict[int, Floats] = {}
        for n, members in by_length.items():
            size = max(BATCH_TOKENS // n, 1)
            for first in range(0, len(members), size):
                batch = members[first : first + size]
                out |= dict(zip(batch, self._run(np.array([ids[i] for i in batch], np.int64)), strict=True))
        return np.stack([out[i] for i in range(len(ids))])

    def _ids(self, texts: Sequence[str], length: int) -> list[list[int]]:
        self._tokenizer.enable_truncation(length)
        return [list(found.ids) for found in self._tokenizer.encode_batch(list(texts))]

    def _run(self, ids: NDArray[np.int64]) -> Floats:  # [batch, length] -> [batch, dim]
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        (vectors,) = self._session.run(["vectors"], given)
        return np.asarray(vectors, np.float32)
