"""Token ids -> unit float32 vectors through ONNX Runtime. The only importer of onnxruntime.

A model folder holds

    model.onnx       input_ids, attention_mask [batch, length] int64 -> vectors [batch, length, dim] float32, unit rows
    tokenizer.json   a `tokenizers` file
    encoding.json    the `EncodingSpec`

and is named by one content hash over the three. `refcolbert export` writes such folders. The weights of a model too
large for one ONNX file lie beside it, in the safetensors format, and are part of the hash:

    weights.safetensors   the initializers that model.onnx only names

Texts are run in batches of equal token length, so nothing is padded: no arithmetic is spent on padding, and a text's
vectors do not depend on what else was in its batch beyond float rounding.
"""

import ctypes
import hashlib
import json
import logging
import os
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tqdm import tqdm

from ..arrays import Floats
from ..checks import check_texts
from ..engine.ragged import Ragged, offsets_of, rows_of
from ..errors import DeviceUnavailable, InvalidInput, InvalidModel, ModelNotFound
from .onnx_file import external_tensors
from .spec import EncodingSpec
from .tokens import Span, TextTokenizer, Tokens

__all__ = ["MODEL_FILES", "WEIGHTS", "Encoder", "Progress", "default_model_folder"]

log = logging.getLogger("refcolbert")

Progress = Callable[[int], object]

MODEL_FILES = ("model.onnx", "tokenizer.json", "encoding.json")
WEIGHTS = "weights.safetensors"
WEIGHT_TYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8, "I64": np.int64}
BATCH_TOKENS = 2048  # tokens of one run: enough for full matrix products, little enough to stay in the caches
UNIT_TOLERANCE = 1e-3  # a row this far from norm 1 is no rounding error: the graph does not normalize
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def default_model_folder() -> Path:
    """The default model, which the package brings along."""
    return Path(__file__).parents[1] / "default_model"


class Encoder:
    """A model that turns texts into token vectors. Make one with `Encoder.load`.

    One object may be shared by threads. A forked child makes itself a new session at its first use. Pickling keeps the
    place of the model, not its bytes: the other process loads it again and refuses it if the content changed.
    """

    def __init__(
        self, folder: Path, *, source: str | None = None, device: str = "cpu", threads: int | None = None
    ) -> None:
        if device not in ("cpu", "cuda", "auto"):
            raise InvalidInput(f"device must be 'cpu', 'cuda' or 'auto', found {device!r}")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise InvalidInput(f"threads must be None or an integer >= 1, found {threads!r}")
        self.folder = folder
        self.source = source  # what `load` was given; None for the default model
        self._device, self._threads = device, threads
        model, tokenizer, encoding, *weights = _read_folder(folder)
        self.hash = _content_hash(model, tokenizer, encoding, *weights)
        self.spec = EncodingSpec.from_json(_text(encoding, "encoding.json"))
        self.tokenizer = TextTokenizer(_text(tokenizer, "tokenizer.json"), self.spec)
        self._start(model, *weights)
        _watch_forks(self)
        _check_signature(self._session, self.spec)

    @classmethod
    def load(cls, path_or_hub_id: str | Path | None = None, *, device: str = "cpu", threads: int | None = None) -> Self:
        """Load a model folder, a hub id ("owner/name", downloaded once), or with None the default model.

        `device` is "cpu", "cuda" (an error where it cannot run) or "auto" (CUDA if it runs here, else the CPU, logged).
        `threads` limits ONNX Runtime's threads inside one operator; None leaves it one for each core.
        Raises `ModelNotFound`, `InvalidModel`, `DeviceUnavailable`.
        """
        folder = _find(path_or_hub_id)
        source = None
        if path_or_hub_id is not None:
            source = str(folder if Path(path_or_hub_id).is_dir() else path_or_hub_id)
        return cls(folder, source=source, device=device, threads=threads)

    @property
    def dim(self) -> int:
        """Columns of a vector."""
        return self.spec.dim

    def encode_queries(self, texts: Iterable[str]) -> list[Floats]:
        """One array [n_q, dim] a text: float32, unit rows, markers and expansion rows included, in token order."""
        tokens = self.tokenizer.queries(check_texts(texts, "queries"))
        vectors = self._encode(tokens, _ignore)
        return [vectors[i].copy() for i in range(len(vectors))]

    def encode_documents(self, texts: Iterable[str], progress: bool | Progress = False) -> Ragged:
        """The documents' vectors as one `Ragged`: float32, unit rows, token order, skiplist rows dropped.

        Equal texts are encoded once and get equal vectors. `progress=True` shows a bar on stderr; a function is called
        with the number of texts just encoded.
        """
        texts = check_texts(texts, "documents")
        unique = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        tokens = self.tokenizer.documents(list(unique))
        with tqdm(total=len(unique), desc="encode", unit="text", disable=progress is not True) as bar:
            vectors = self._encode(tokens, progress if callable(progress) else bar.update)
        if callable(progress):
            progress(len(texts) - len(unique))
        if len(unique) == len(texts):
            return vectors
        return vectors.take(np.array([unique[text] for text in texts], np.int64))

    def query_labels(self, text: str) -> list[str]:
        """The vocabulary's spelling of each query token, in the order of `encode_queries`' rows."""
        (tokens,) = self.tokenizer.queries(check_texts([text], "query"))
        return [self.tokenizer.token(i) for i in tokens.ids[tokens.keep]]

    def query_places(self, text: str) -> tuple[list[Span], int]:
        """Place in the text of each query token, None for markers; how many at the end are expansion."""
        (tokens,) = self.tokenizer.queries(check_texts([text], "query"))
        kept = np.flatnonzero(tokens.keep)  # [n_q]
        n_expansion = int((kept >= len(tokens.ids) - tokens.n_expansion).sum())
        return [tokens.spans[i] for i in kept], n_expansion

    def document_labels(self, text: str) -> tuple[list[str], list[Span]]:
        """Spelling and place in the text of each token that has a row in `encode_documents`."""
        (tokens,) = self.tokenizer.documents(check_texts([text], "document"))
        kept = np.flatnonzero(tokens.keep)  # [n_d]
        return [self.tokenizer.token(tokens.ids[i]) for i in kept], [tokens.spans[i] for i in kept]

    def info(self) -> dict[str, Any]:
        """What this encoder is and where it runs."""
        return {
            "folder": str(self.folder),
            "hash": self.hash,
            "dim": self.dim,
            "query_length": self.spec.query_length,
            "document_length": self.spec.document_length,
            "vocabulary": self.tokenizer.vocabulary_size,
            "device": self._device,
            "providers": self._session.get_providers(),
            "threads": self._threads,
            "onnxruntime": onnxruntime.__version__,
        }

    def _encode(self, tokens: list[Tokens], progress: Progress) -> Ragged:
        kept = offsets_of([int(t.keep.sum()) for t in tokens])  # [n_texts + 1]
        if (np.diff(kept) == 0).any():
            raise InvalidInput(
                f"text {int(np.argmin(np.diff(kept)))} gives no vectors: this model frames no text and drops its tokens"
            )
        out = np.empty((kept[-1], self.dim), np.float32)  # [n_tokens, dim]
        for batch in _batches(tokens):
            ids = np.stack([tokens[i].ids for i in batch])  # [n_batch, length]
            attention = np.stack([tokens[i].attention for i in batch]).astype(np.int64)  # [n_batch, length]
            keep = np.stack([tokens[i].keep for i in batch])  # [n_batch, length]
            out[rows_of(kept, np.array(batch, np.int64))] = self._run(ids, attention)[keep]
            progress(len(batch))
        return Ragged(out, kept)

    def _run(self, ids: NDArray[np.int64], attention: NDArray[np.int64]) -> Floats:
        """[n_batch, length] twice -> [n_batch, length, dim]."""
        if self._process != os.getpid():  # the threads of a session do not survive a fork
            self._start(*self._reread())
        try:
            (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": attention})
        except Exception as error:
            raise InvalidModel(
                f"{self.folder / 'model.onnx'} cannot run the ids of its encoding.json: {error}"
            ) from error
        norms = np.einsum("bnd,bnd->bn", vectors, vectors)  # [n_batch, length] squared
        if vectors.dtype != np.float32 or not (np.abs(norms - 1) < UNIT_TOLERANCE).all():  # also when NaN
            raise InvalidModel(
                f"{self.folder / 'model.onnx'} must give float32 rows of norm 1, found {vectors.dtype} "
                f"with squared norms {norms.min():.4g} to {norms.max():.4g}; export the model again"
            )
        return np.asarray(vectors)

    def _start(self, model: bytes, weights: bytes | None = None) -> None:
        """Make the session from bytes that were hashed, and from no others: ONNX Runtime is handed the weights."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: warnings about the machine are not the caller's
        options.add_session_config_entry("session.load_model_format", "ONNX")  # the format that was looked through
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        providers = _providers(self._device)
        arrays = {} if weights is None else _arrays(weights)
        self._weights = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
        _check_complete(model, set(arrays))
        try:
            options.add_external_initializers(list(arrays), self._weights)
            self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:
            raise InvalidModel(f"{self.folder / 'model.onnx'} cannot be loaded by ONNX Runtime: {error}") from error
        # ONNX Runtime falls back to the CPU without saying so: compare what was asked with what it took.
        if providers[0] not in self._session.get_providers():
            if self._device == "cuda":
                raise DeviceUnavailable("CUDA was asked for and ONNX Runtime could not start it; see its log above")
            log.warning("CUDA did not start, the encoder runs on the CPU")
        self._process = os.getpid()

    def _reread(self) -> list[bytes]:
        model, tokenizer, encoding, *weights = _read_folder(self.folder)
        if _content_hash(model, tokenizer, encoding, *weights) != self.hash:
            raise InvalidModel(f"{self.folder} changed since it was loaded; load the encoder again")
        return [model, *weights]

    def __getstate__(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "source": self.source,
            "device": self._device,
            "threads": self._threads,
            "hash": self.hash,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        expected = state.pop("hash")
        Encoder.__init__(self, **state)
        if self.hash != expected:
            raise InvalidModel(f"{self.folder} changed since the encoder was pickled; load it again")


_LIVE: weakref.WeakSet[Encoder] = weakref.WeakSet()  # a forked child inherits their sessions


def _watch_forks(encoder: Encoder) -> None:
    """See to it that a forked child never destroys the encoder's session."""
    if not _LIVE and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_keep_sessions)
    _LIVE.add(encoder)


def _keep_sessions() -> None:
    """Destroying an inherited session would wait for its threads, which did not come along: keep it for good."""
    for encoder in _LIVE:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(encoder._session))


def _ignore(_: int) -> None:
    """Progress that nobody watches."""


def _batches(tokens: list[Tokens]) -> Iterator[list[int]]:
    """Indices of texts of one length, longest first, at most BATCH_TOKENS tokens together (or one text)."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for i, t in enumerate(tokens):
        by_length[len(t.ids)].append(i)
    for length in sorted(by_length, reverse=True):
        size = max(BATCH_TOKENS // length, 1)
        texts = by_length[length]
        yield from (texts[i : i + size] for i in range(0, len(texts), size))


def _providers(device: str) -> list[str]:
    """Execution providers in order of preference. Raises `DeviceUnavailable` for "cuda" where it is not built in."""
    if device == "cpu":
        return [PROVIDERS["cpu"]]
    available = onnxruntime.get_available_providers()
    if PROVIDERS["cuda"] in available:
        return [PROVIDERS["cuda"], PROVIDERS["cpu"]]
    if device == "cuda":
        raise DeviceUnavailable(
            f"device='cuda' needs ONNX Runtime's CUDA build, this one offers {available}; "
            "in this environment: pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        )
    log.info("CUDA is not available here, the encoder runs on the CPU")
    return [PROVIDERS["cpu"]]


def _find(path_or_hub_id: str | Path | None) -> Path:
    """The folder of a model. Raises `ModelNotFound`."""
    if path_or_hub_id is None:
        folder = default_model_folder()
        if not folder.is_dir():
            raise ModelNotFound(
                f"this installation lacks the default model, expected at {folder}; install refcolbert again, "
                "or name a model folder: Encoder.load(path)"
            )
        return folder
    if not isinstance(path_or_hub_id, str | Path) or path_or_hub_id == "":
        raise InvalidInput(f"a model is named by a path or a hub id, found {path_or_hub_id!r}")
    folder = Path(path_or_hub_id)
    if folder.is_dir():
        return folder.resolve()
    if isinstance(path_or_hub_id, str) and path_or_hub_id.count("/") == 1 and not path_or_hub_id.startswith((".", "/")):
        return _download(path_or_hub_id)
    raise ModelNotFound(f"there is no folder {folder}, and a hub id has the form 'owner/name'")


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download  # takes a second to import, and few need it

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[*MODEL_FILES, WEIGHTS]))
    except Exception as error:
        raise ModelNotFound(f"no folder {hub_id!r} here, and the hub gave: {error}") from error


def _read_folder(folder: Path) -> list[bytes]:
    """The bytes of MODEL_FILES in their order, and of WEIGHTS where there is one."""
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        hint = "a PyTorch checkpoint becomes a model folder with 'refcolbert export CHECKPOINT OUT'"
        if not folder.is_dir():
            raise ModelNotFound(f"there is no model folder {folder}; {hint}")
        raise InvalidModel(f"{folder} must hold {', '.join(MODEL_FILES)}; missing: {', '.join(missing)}; {hint}")
    return [(folder / name).read_bytes() for name in (*MODEL_FILES, WEIGHTS) if (folder / name).is_file()]


def _content_hash(*parts: bytes) -> str:
    """sha256 over the sha256 of each file: the name of a model, wherever it lies."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file, without a copy. Raises `InvalidModel`.

    The format: length of the header (8 bytes, little endian), a JSON header {name: {dtype, shape, data_offsets}}, data.
    """
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        out = {}
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                values = np.frombuffer(memoryview(data)[start + begin : start + end], WEIGHT_TYPES[entry["dtype"]])
                out[name] = values.reshape(entry["shape"])
        return out
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidModel(f"{WEIGHTS} is no safetensors file of weights: {error!r}") from error


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidModel(f"{name} is not UTF-8: {error}") from error


def _check_complete(model: bytes, weights: set[str]) -> None:
    try:
        for name, is_initializer in external_tensors(model):
            if not is_initializer or name not in weights:
                raise InvalidModel(f"model.onnx keeps tensor {name!r} in another file, which is never read")
    except ValueError as error:
        raise InvalidModel(f"model.onnx is no ONNX file: {error}; export the model again") from error


def _check_signature(session: onnxruntime.InferenceSession, spec: EncodingSpec) -> None:
    inputs = {i.name: (i.type, len(i.shape)) for i in session.get_inputs()}
    outputs = [(o.type, len(o.shape), o.shape[-1]) for o in session.get_outputs()]
    expected = {"input_ids": ("tensor(int64)", 2), "attention_mask": ("tensor(int64)", 2)}
    if inputs != expected or outputs != [("tensor(float)", 3, spec.dim)]:
        raise InvalidModel(
            f"model.onnx must take {expected} and give one float tensor [batch, length, {spec.dim}], "
            f"found inputs {inputs} and outputs {outputs}"
        )
