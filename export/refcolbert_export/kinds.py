"""Refuse folders and files that `export` cannot read, with an error that says what they are and what to do.

Importing this module does not import torch, and no weights are read, so that a refusal takes no time. A folder of no
kind that is known here goes to the readers of `layouts`.
"""

import importlib.util
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from refcolbert.errors import UnsupportedCheckpoint

__all__ = ["WEIGHTS", "check_file", "check_kind"]

# The weights of a transformer or a Dense folder, by the ends of their names; an index names shards.
WEIGHTS = (
    r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?",
    r"pytorch_model(-\d+-of-\d+)?\.bin(\.index\.json)?",
)
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# A pointer is three short lines.
LFS_BYTES = 1024
IMAGE_CLASSES = r"Col(Pali|Qwen|Idefics|Smol|Flor|Intern|Modern(VBert)).*|.*(CLIP|Siglip|ViT)Model"
# From each of these transformers makes a tokenizer.json.
VOCABULARIES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model"),
    *("tokenizer.model", "tekken.json"),
)
# These have a vocabulary, but split words in Python.
PYTHON_TOKENIZERS = ("BertJapaneseTokenizer", "BertweetTokenizer", "PhobertTokenizer", "ByT5Tokenizer")
# Each marks a layout whose projection is somewhere else than in modules.json.
PROJECTIONS = ("artifact.metadata", "colbert_linear.pt", "2_Dense/config.json")


@dataclass(frozen=True)
class Files:
    """A folder, and the paths of all its files, some of which may not be there yet."""

    folder: Path
    names: Collection[str]

    def json(self, name: str) -> Any:
        """Return the content of a JSON file, {} if it cannot be read."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def settings(self, name: str) -> dict[str, Any]:
        """Return the JSON object in a file beside the transformer's weights, {} if it cannot be read."""
        value = self.json(self.transformer + name)
        return value if isinstance(value, dict) else {}

    @cached_property
    def modules(self) -> list[dict[str, Any]]:
        """The entries of modules.json."""
        entries = self.json("modules.json")
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    @cached_property
    def transformer(self) -> str:
        """The folder of the transformer, as the beginning of a path."""
        path = str(self.modules[0].get("path", "")).strip("/") if self.modules else ""
        return f"{path}/" if path else ""

    @cached_property
    def has_weights(self) -> bool:
        """True when a weight file of the transformer is there."""
        prefix = re.escape(self.transformer)
        return any(re.fullmatch(prefix + pattern, name) for pattern in WEIGHTS for name in self.names)

    def ending(self, suffix: str) -> str | None:
        """Return the first file with this ending, or None."""
        return next((name for name in sorted(self.names) if name.endswith(suffix)), None)


def check_kind(folder: Path, names: Collection[str] | None = None) -> None:
    """Raise `UnsupportedCheckpoint` for a folder of a kind that cannot be exported.

    names  paths of all its files, when some are not there yet
    """
    if names is None:
        names = [p.relative_to(folder).as_posix() for pattern in ("*", "*/*") for p in folder.glob(pattern)]
    files = Files(folder, names)
    for found in (kind(files) for kind in KINDS):
        if found is not None:
            raise UnsupportedCheckpoint(f"expected a checkpoint at {folder}, found {found}")


def check_file(path: Path) -> None:
    """Raise `UnsupportedCheckpoint` for a file in the place of a folder."""
    what = {
        ".dnn": VERSION_1,
        ".gguf": GGUF,
        ".onnx": ONNX,
    }
    kind = what.get(path.suffix, "a file: name the folder that holds it with config.json and the tokenizer")
    raise UnsupportedCheckpoint(f"expected a checkpoint's folder at {path}, found {kind}")


VERSION_1 = (
    "ColBERT v1's weights, without a tokenizer: name the .dnn file, and pass --tokenizer FOLDER with config.json and "
    "tokenizer of the BERT that it was trained from"
)
GGUF = "GGUF, quantized weights for llama.cpp: export the checkpoint that they were made from"
ONNX = "ONNX without the trained weights: parity cannot be measured; export the checkpoint that it was made from"


def _lfs_pointer(files: Files) -> str | None:
    for name in files.names:
        path = files.folder / name
        if path.is_file() and path.stat().st_size <= LFS_BYTES and path.read_bytes().startswith(LFS_POINTER):
            return f"a Git LFS pointer in place of {name}: run `git lfs pull` in the repository that holds it"
    return None


def _image_model(files: Files) -> str | None:
    config = files.settings("config.json")
    classes = [name for name in _texts(config.get("architectures")) if re.fullmatch(IMAGE_CLASSES, name)]
    images = {"image_processor_type", "image_mean"} & files.settings("preprocessor_config.json").keys()
    if not classes and not images and "vision_config" not in config:
        return None
    return "a model of images: only models of texts are exported; use the package that trained it"


def _adapter(files: Files) -> str | None:
    if f"{files.transformer}adapter_config.json" not in files.names or files.has_weights:
        return None
    base = files.settings("adapter_config.json").get("base_model_name_or_path")
    return (
        f"a LoRA adapter without its base {base!r}: load both with peft, call merge_and_unload() and save_pretrained, "
        "and export that folder"
    )


def _version_1(files: Files) -> str | None:
    return VERSION_1 if files.ending(".dnn") and not files.has_weights else None


def _gguf(files: Files) -> str | None:
    return GGUF if files.ending(".gguf") and not files.has_weights else None


def _onnx_only(files: Files) -> str | None:
    if files.has_weights or not files.ending(".onnx"):
        return None
    if "encoding.json" in files.names:
        return "an exported model: use it as it is, Encoder.load(path)"
    # next-plaid's folders have a reader
    return None if "onnx_config.json" in files.names else ONNX


def _code_elsewhere(files: Files) -> str | None:
    model_type = str(files.settings("config.json").get("model_type"))
    for file in ("config.json", "tokenizer_config.json"):
        for name in _texts(files.settings(file).get("auto_map")):
            repository, separator, path = name.partition("--")
            if separator and not _in_transformers(model_type, path.rsplit(".", 1)[-1]):
                return (
                    f"code in another repository, {repository} (auto_map in {file}: {name}), which is not downloaded: "
                    f"read that code, copy it into the folder, write {path!r} in auto_map, and pass "
                    "--trust-remote-code"
                )
    return None


def _in_transformers(model_type: str, name: str) -> bool:
    """Return True if transformers has that class for that model. Its source is searched: an import takes seconds."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None or not re.fullmatch(r"[\w-]+", model_type):
        return False
    sources = (Path(spec.origin).parent / "models" / model_type.replace("-", "_")).glob("*.py")
    return any(re.search(rf"^class {re.escape(name)}\b", path.read_text(encoding="utf-8"), re.M) for path in sources)


def _python_tokenizer(files: Files) -> str | None:
    near = {name.removeprefix(files.transformer) for name in files.names}
    name = str(files.settings("tokenizer_config.json").get("tokenizer_class"))
    if "tokenizer.json" in near or (near & {*VOCABULARIES} and name not in PYTHON_TOKENIZERS):
        return None
    if not files.has_weights or "config.json" not in near:
        return None
    what = f"the tokenizer {name}, which is written in Python" if name in PYTHON_TOKENIZERS else "no tokenizer.json"
    return (
        f"{what}, and no file from which a tokenizer.json is made: without one the model cannot run; make one with the "
        "package `tokenizers` that gives the same ids, and put it beside config.json"
    )


def _no_projection(files: Files) -> str | None:
    config = files.settings("config.json")
    settings = files.json("config_sentence_transformers.json") or {}
    if settings.get("model_type") in ("ColBERT", "MultiVectorEncoder") or "query_prefix" in settings:
        return None
    if not files.has_weights or not config or any(name in files.names for name in PROJECTIONS):
        return None
    if any(
        re.fullmatch(".*ForSequenceClassification|HF_ColBERT", name) for name in _texts(config.get("architectures"))
    ):
        return None
    kind = "a bi-encoder, which gives one vector per text" if files.modules else "a transformer without a projection"
    return f"{kind}: `refcolbert train` makes a ColBERT of it"


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


KINDS = (
    *(_lfs_pointer, _image_model, _adapter, _version_1, _gguf, _onnx_only, _code_elsewhere, _python_tokenizer),
    # the last, because it is what is left
    _no_projection,
)
