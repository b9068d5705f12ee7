"""ColBERT v1: one pickled file (.dnn) with the weights and the arguments of the training run.

Follows ColBERT v0.2 (utils/utils.py, parameters.py, modeling/). The file holds neither a configuration nor a tokenizer,
so both come from the folder of the transformer that was trained. For BERT that release encodes as colbert-ai 0.2.22
does: it tokenizes ". text" and puts the marker in place of the full stop.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from refcolbert.errors import UnsupportedCheckpoint

from ..tensors import read_json, read_pickle
from .stanford import METADATA

__all__ = ["as_folder"]

SUFFIX = ".dnn"
# The defaults of its command line.
DEFAULTS = {"dim": 128, "query_maxlen": 32, "doc_maxlen": 180, "mask_punctuation": False, "similarity": "cosine"}
TOKENIZER_FILES = ("tokenizer*", "vocab*", "special_tokens_map.json", "added_tokens.json", "merges.txt", "*.model")


@contextmanager
def as_folder(checkpoint: Path, tokenizer: Path | None = None) -> Iterator[Path]:
    """The checkpoint as a folder: itself, or a temporary one in Stanford's layout when it is a single file.

    `tokenizer` is a folder with config.json and tokenizer for the single file. Raises `UnsupportedCheckpoint`.
    """
    single = checkpoint.suffix == SUFFIX and checkpoint.is_file()
    if single and tokenizer is None:
        raise UnsupportedCheckpoint(
            f"expected --tokenizer FOLDER for {checkpoint.name}: a {SUFFIX} file holds no tokenizer. Give the folder "
            "of the BERT that it was trained from, with its config.json and tokenizer"
        )
    if tokenizer is not None and not single:
        raise UnsupportedCheckpoint(f"expected a {SUFFIX} file with --tokenizer, found {checkpoint}; leave it out")
    if tokenizer is None:
        yield checkpoint
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / checkpoint.stem
        folder.mkdir()
        _write(checkpoint, tokenizer, folder)
        yield folder


def _write(checkpoint: Path, tokenizer: Path, folder: Path) -> None:
    stored = read_pickle(checkpoint)
    tensors, arguments = stored.get("model_state_dict"), stored.get("arguments", {})
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise UnsupportedCheckpoint(f"expected tensors by name as model_state_dict in {checkpoint.name}, found none")
    # Data-parallel training puts a prefix before every name.
    named = {key.removeprefix("module."): t.clone().contiguous() for key, t in tensors.items()}
    save_file(named, folder / "model.safetensors")
    config = {**read_json(tokenizer / "config.json"), "architectures": ["HF_ColBERT"]}
    (folder / "config.json").write_text(json.dumps(config))
    settings = {key: arguments.get(key, default) for key, default in DEFAULTS.items()}
    (folder / METADATA).write_text(json.dumps(settings))
    for path in {path for pattern in TOKENIZER_FILES for path in tokenizer.glob(pattern)}:
        shutil.copy(path, folder / path.name)
