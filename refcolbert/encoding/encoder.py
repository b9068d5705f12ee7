"""Token ids -> unit float32 vectors through ONNX Runtime. The only module that imports onnxruntime.

A model folder holds

    model.onnx       input_ids, attention_mask [batch, length] int64 -> vectors [batch, length, dim] float32, unit rows
    tokenizer.json   a file of the `tokenizers` package
    encoding.json    the `EncodingSpec`

and, if the model is too large for one ONNX file, the initializers that model.onnx only names, as safetensors:

    weights.safetensors

`refcolbert export` writes such folders. A content hash names a model, in whatever folder it is. It is the SHA-256, in
lower-case hex, of the SHA-256 digests of these files, one digest (32 bytes) after the other in the order above.
"""

import ctypes
import hashlib
import json
import logging
import os
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import onnxruntime
from tqdm import tqdm

from ..arrays import Array, Floats, Ints
from ..checks import check_texts
from ..engine.ragged import Ragged, offsets_of, rows_of
from ..errors import DeviceUnavailable, EncoderMismatch, InvalidInput, InvalidModel, ModelNotFound
from .hub import download, is_hub_id
from .onnx_file import external_tensors
from .spec import EncodingSpec
from .tokens import Span, TextTokenizer, Tokens

__all__ = [
    "LENGTHS_LOG",
    "MODEL_FILES",
    "PROGRESS_LOG",
    "SMALL",
    "WEIGHTS",
    "Encoder",
    "Progress",
    "default_model_folder",
    "is_packaged",
    "small_model_folder",
]

# Warnings of texts that are too long have a logger of their own, below "refcolbert": programs that say it in their own
# way, and services whose clients send the texts, do not want them.
LENGTHS_LOG = "refcolbert.lengths"
# One line per minute about documents, at the level INFO, for programs whose stderr is a file.
PROGRESS_LOG = "refcolbert.progress"
PROGRESS_SECONDS = 60.0
log = logging.getLogger("refcolbert")

Progress = Callable[[int], object]

MODEL_FILES = ("model.onnx", "tokenizer.json", "encoding.json")
WEIGHTS = "weights.safetensors"
# The name of the package's second model.
SMALL = "small"
WEIGHT_TYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8, "I64": np.int64}
# Tokens of one run: enough for full matrix products, few enough for the activations to stay in the caches.
BATCH_TOKENS = 2048
# A squared norm further from 1 than this is not a rounding error: the graph does not normalize.
UNIT_TOLERANCE = 1e-3
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def default_model_folder() -> Path:
    """Return the folder of the default model, which is part of the package."""
    return Path(__file__).parents[1] / "default_model"


def small_model_folder() -> Path:
    """Return the folder of the small model, which is part of the package."""
    return Path(__file__).parents[1] / "small_model"


def is_packaged(source: str | None) -> bool:
    """Return True for the models of the package: None, the default model, and the small one's name."""
    return source in (None, SMALL)


class Encoder:
    """A model that turns texts into token vectors. `Encoder.load` makes one.

    Threads may share one encoder. A forked child starts a session of its own at its first use. Pickling keeps the
    model's folder and hash, not its bytes: the other process loads the folder again, and raises `InvalidModel` if the
    content changed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        source: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        expected_hash: str | None = None,
    ) -> None:
        """Load a model folder; `source` is the name that `load` was given, None for the default model."""
        if device not in ("cpu", "cuda", "auto"):
            raise InvalidInput(f"device must be 'cpu', 'cuda' or 'auto', found {device!r}")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise InvalidInput(f"threads must be None or an integer >= 1, found {threads!r}")
        self.folder = folder
        self.source = source
        self._device, self._threads = device, threads
        self._n_documents, self._told = 0, time.monotonic()  # encoded so far, and when a line said so
        files = _read_files(folder)
        self.hash = _content_hash(files)
        if expected_hash is not None and self.hash != expected_hash:
            raise EncoderMismatch(
                f"expected the model {expected_hash[:12]}, found {self.hash[:12]} in {folder}; name the folder of the "
                "right model"
            )
        self.spec = EncodingSpec.from_json(_decoded(files.encoding, "encoding.json"))
        self.tokenizer = TextTokenizer(_decoded(files.tokenizer, "tokenizer.json"), self.spec)
        self._start(files)
        _watch_forks(self)
        _check_signature(self._session, self.spec)

    @classmethod
    def load(
        cls,
        path_or_hub_id: str | Path | None = None,
        *,
        device: str = "cpu",
        threads: int | None = None,
        expected_hash: str | None = None,
    ) -> Self:
        """Load a model. Without arguments this is the default model, on the CPU.

            path_or_hub_id  a model folder, or a hub id "owner/name", which is downloaded once; None: the default model;
                            "small": the package's small model, also where a folder "small" is (that is "./small")
            device          "cpu"; "cuda", an error where CUDA cannot run; "auto", CUDA where it runs, else the CPU
            threads         ONNX Runtime's threads inside one operator; None: one per core
            expected_hash   the model's content hash. It is compared before anything of the model is run or parsed

        Raises `ModelNotFound`, `InvalidModel`, `EncoderMismatch`, `DeviceUnavailable`, `InvalidInput`. An example:

            >>> encoder = Encoder.load()
            >>> encoder.dim
            64
            >>> documents = encoder.encode_documents(["Read a file.", "Dates"])
            >>> documents.lengths.tolist()  # [CLS], the marker and [SEP] have vectors, the full stop has none
            [6, 4]
            >>> (q,) = encoder.encode_queries(["open files"])
            >>> q.shape  # filled up with [MASK]
            (32, 64)
        """
        folder = _folder_of(path_or_hub_id)
        source = None
        if path_or_hub_id is not None:
            named = path_or_hub_id == SMALL or not Path(path_or_hub_id).is_dir()
            source = str(path_or_hub_id if named else folder)
        return cls(folder, source=source, device=device, threads=threads, expected_hash=expected_hash)

    @property
    def dim(self) -> int:
        """The number of columns of a vector."""
        return self.spec.dim

    def encode_queries(self, texts: Iterable[str]) -> list[Floats]:
        """Return one array [n_q, dim] per text: float32, unit rows in token order, with markers and expansion.

        Logs a warning when queries have more tokens than the model reads.
        """
        texts = check_texts(texts, "queries")
        tokens = self.tokenizer.queries(texts)
        _warn_of_cuts("queries", texts, tokens, self.spec.query_length, len(self.spec.query_suffix_ids))
        vectors = self._encode(tokens)
        # Copies: a view would keep the vectors of all queries in memory, and let a caller change another query.
        return [vectors[i].copy() for i in range(len(vectors))]

    def encode_documents(self, texts: Iterable[str], progress: bool | Progress = False) -> Ragged:
        """Return the documents' vectors: float32, unit rows in token order, without the rows of the skiplist.

        Equal texts are encoded once and get equal vectors. `progress=True` shows a bar on stderr. A function is called
        after each batch with a number of texts. Their sum so far is the number of texts times the share of the tokens
        that are encoded. Logs a warning when documents have more tokens than the model reads.
        """
        texts = check_texts(texts, "documents")
        unique = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        tokens = self.tokenizer.documents(list(unique))
        _warn_of_cuts("documents", unique, tokens, self.spec.document_length, len(self.spec.document_suffix_ids))
        with tqdm(total=len(unique), desc="encode", unit="text", disable=progress is not True) as bar:
            report = progress if callable(progress) else bar.update
            vectors = self._encode(tokens, lambda n: self._count(n, report))
        if callable(progress):
            progress(len(texts) - len(unique))
        if len(unique) == len(texts):
            return vectors
        return vectors.take(np.array([unique[text] for text in texts], np.int64))

    def query_labels(self, text: str) -> list[str]:
        """Return the vocabulary's spelling of each query token, in the order of the rows of `encode_queries`."""
        (tokens,) = self.tokenizer.queries(check_texts([text], "query"))
        return [self.tokenizer.token(i) for i in tokens.ids[tokens.keep]]

    def query_places(self, text: str) -> tuple[list[Span], int]:
        """Return the place in the text of each query token (None for markers) and the number of expansion tokens."""
        (tokens,) = self.tokenizer.queries(check_texts([text], "query"))
        kept = np.flatnonzero(tokens.keep)  # [n_q]
        # The query skiplist may drop expansion tokens, too: only those with a row count.
        n_expansion = int((kept >= len(tokens.ids) - tokens.n_expansion).sum())
        return [tokens.spans[i] for i in kept], n_expansion

    def document_labels(self, text: str) -> tuple[list[str], list[Span]]:
        """Return the spelling, and the place in the text, of each token that has a row in `encode_documents`."""
        (tokens,) = self.tokenizer.documents(check_texts([text], "document"))
        kept = np.flatnonzero(tokens.keep)  # [n_d]
        return [self.tokenizer.token(tokens.ids[i]) for i in kept], [tokens.spans[i] for i in kept]

    def info(self) -> dict[str, Any]:
        """Return the model's folder, hash and sizes, and the device and threads that it runs on, as JSON values."""
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

    def _encode(self, tokens: list[Tokens], progress: Progress = lambda _: None) -> Ragged:
        """Run all texts and return the vectors of their kept tokens. `progress` is that of `encode_documents`."""
        offsets = offsets_of([int(t.keep.sum()) for t in tokens])  # [n_texts + 1]
        for t in tokens:
            if not t.keep.any():
                raise InvalidInput(
                    "expected at least one token with a vector in each text, found a text with the tokens "
                    f"{[self.tokenizer.token(i) for i in t.ids]}, which this model drops; leave that text out"
                )
        out = np.empty((offsets[-1], self.dim), np.float32)  # [n_tokens, dim]
        total, done, told = sum(len(t.ids) for t in tokens), 0, 0
        for batch in _batches(tokens):
            ids = np.stack([tokens[i].ids for i in batch])  # [n_batch, length]
            attention = np.stack([tokens[i].attention for i in batch]).astype(np.int64)  # [n_batch, length]
            keep = np.stack([tokens[i].keep for i in batch])  # [n_batch, length]
            # Indexing with a mask gives the kept rows text by text. `rows_of` lists their places in the same order.
            out[rows_of(offsets, np.array(batch, np.int64))] = self._run(ids, attention)[keep]
            # The longest texts come first. Counted by texts, the time that is left would seem several times as long.
            done += ids.size
            progress(len(tokens) * done // total - told)
            told = len(tokens) * done // total
        return Ragged(out, offsets)

    def _count(self, n_documents: int, report: Progress) -> None:
        """Report encoded documents, and log how many there were if a minute has passed since the last such line."""
        report(n_documents)
        self._n_documents += n_documents
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            logging.getLogger(PROGRESS_LOG).info("documents encoded so far: %d", self._n_documents)
            self._told = now

    def _run(self, ids: Ints, attention: Ints) -> Floats:
        """Run the model: [n_batch, length] twice -> [n_batch, length, dim]. Raises `InvalidModel`."""
        # The threads of a session do not survive a fork: a child that used the parent's session would wait forever.
        if self._process != os.getpid():
            self._start(self._files_again())
        model = self.folder / "model.onnx"
        try:
            (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": attention})
        except Exception as error:
            raise InvalidModel(
                f"{model} must run all ids and lengths of its encoding.json, found: {error}; export the model again"
            ) from error
        squares = np.einsum("bnd,bnd->bn", vectors, vectors)  # [n_batch, length]
        # `not all(... < ...)` refuses NaN, which compares false; `any(... >= ...)` would let it pass.
        if vectors.dtype != np.float32 or not (np.abs(squares - 1) < UNIT_TOLERANCE).all():
            raise InvalidModel(
                f"{model} must give float32 rows of norm 1, found {vectors.dtype} with squared norms "
                f"{squares.min():.4g} to {squares.max():.4g}; export the model again"
            )
        return np.asarray(vectors)

    def _start(self, files: "_ModelFiles") -> None:
        """Start a session from the bytes that were hashed. ONNX Runtime opens no file, so it runs no other bytes."""
        options = onnxruntime.SessionOptions()
        # 3 is errors only. ONNX Runtime's warnings are about the machine, and would go to the caller's stderr.
        options.log_severity_level = 3
        # Without this, bytes may also be in ONNX Runtime's own format, which `_check_complete` does not read.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        providers = _providers(self._device)
        weights = {} if files.weights is None else _weights(files.weights)
        _check_complete(files.model, set(weights))
        # Kept as long as the session, which may read the initializers where they are.
        self._weights = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        try:
            options.add_external_initializers(list(weights), self._weights)
            self._session = onnxruntime.InferenceSession(files.model, options, providers=providers)
        except Exception as error:
            raise InvalidModel(
                f"{self.folder / 'model.onnx'} cannot be loaded by ONNX Runtime: {error}; export the model again"
            ) from error
        # ONNX Runtime falls back to the CPU silently when CUDA fails to start, so the providers must be compared.
        if providers[0] not in self._session.get_providers():
            if self._device == "cuda":
                raise DeviceUnavailable(
                    "device='cuda' expects ONNX Runtime to start CUDA, found that it could not; "
                    "see its log above, or load with device='auto'"
                )
            log.warning("CUDA did not start, the encoder runs on the CPU")
        self._process = os.getpid()

    def _files_again(self) -> "_ModelFiles":
        files = _read_files(self.folder)
        if _content_hash(files) != self.hash:
            raise InvalidModel(f"{self.folder} changed since it was loaded; load the encoder again")
        return files

    def __repr__(self) -> str:
        return f"<Encoder {self.source or 'default model'}, dim {self.dim}, {self.hash[:12]}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments of `__init__`, and the hash that the folder must still have."""
        return {
            "folder": self.folder,
            "source": self.source,
            "device": self._device,
            "threads": self._threads,
            "hash": self.hash,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load the folder again. Raises `InvalidModel` if its content changed, `ModelNotFound` if it is gone."""
        expected = state.pop("hash")
        Encoder.__init__(self, **state)
        if self.hash != expected:
            raise InvalidModel(f"{self.folder} changed since the encoder was pickled; load it again")


def _batches(tokens: list[Tokens]) -> Iterator[list[int]]:
    """Yield batches of texts of one length, the longest first, as their indices in `tokens`.

    A batch has at most BATCH_TOKENS tokens, or one text. With BATCH_TOKENS 2048, 300 texts of 20 tokens give batches of
    102, 102 and 96 texts. A batch of one length needs no padding. So no arithmetic is spent on padding, and the other
    texts of a batch change the vectors of a text by float rounding alone.
    """
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for i, t in enumerate(tokens):
        by_length[len(t.ids)].append(i)
    for length in sorted(by_length, reverse=True):
        size = max(BATCH_TOKENS // length, 1)
        texts = by_length[length]
        yield from (texts[i : i + size] for i in range(0, len(texts), size))


def _warn_of_cuts(kind: str, texts: Iterable[str], tokens: Sequence[Tokens], length: int, n_suffix: int) -> None:
    """Log a warning if some texts are longer than `length` tokens: the last token of the text ends before the text."""
    n_cut = 0
    for text, t in zip(texts, tokens, strict=True):
        if len(t.ids) - t.n_expansion == length:
            last = t.spans[length - n_suffix - 1]
            n_cut += bool(text[last[1] if last else 0 :].strip())
    if n_cut:
        logging.getLogger(LENGTHS_LOG).warning(
            "%d of %d %s have more tokens than the %d that the model reads, the rest of each is not encoded; %s",
            n_cut,
            len(tokens),
            kind,
            length,
            "split them with refcolbert.corpus.passages" if kind == "documents" else "shorten them",
        )


# ---- from a name to the bytes of a model


class _ModelFiles(NamedTuple):
    """The contents of a model folder, in the order in which they are hashed."""

    model: bytes
    tokenizer: bytes
    encoding: bytes
    weights: bytes | None


def _folder_of(path_or_hub_id: str | Path | None) -> Path:
    """Return the folder of a model, after a download if need be. Raises `ModelNotFound`."""
    # A name of the package means one model wherever a program runs, and whatever folders are there.
    if path_or_hub_id is None or path_or_hub_id == SMALL:
        folder = small_model_folder() if path_or_hub_id == SMALL else default_model_folder()
        if not folder.is_dir():
            raise ModelNotFound(
                f"this installation lacks the {path_or_hub_id or 'default'} model, expected at {folder}; install "
                "refcolbert again, or name a model folder: Encoder.load(path)"
            )
        return folder
    if not isinstance(path_or_hub_id, str | Path) or path_or_hub_id == "":
        raise InvalidInput(f"a model must be named by a path or a hub id 'owner/name', found {path_or_hub_id!r}")
    folder = Path(path_or_hub_id)
    # A folder comes first, so that a hub id never hides a folder of that name.
    if folder.is_dir():
        return folder.resolve()
    if isinstance(path_or_hub_id, str) and is_hub_id(path_or_hub_id):
        return _download(path_or_hub_id)
    raise ModelNotFound(
        f"there is no folder {folder}, a hub id has the form 'owner/name', and the package's second model is {SMALL!r}"
    )


def _download(hub_id: str) -> Path:
    # Only these files: a repository may also hold the checkpoint, which is several times as large.
    folder = download(hub_id, [*MODEL_FILES, WEIGHTS])
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise ModelNotFound(
            f"expected an exported model in the repository {hub_id}, found no {', '.join(missing)}; "
            f"if it holds a checkpoint, make the model: refcolbert export {hub_id} OUT"
        )
    return folder


def _read_files(folder: Path) -> _ModelFiles:
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        hint = "a PyTorch checkpoint becomes a model folder with 'refcolbert export CHECKPOINT OUT'"
        if not folder.is_dir():
            raise ModelNotFound(f"there is no model folder {folder}; {hint}")
        raise InvalidModel(f"{folder} must hold {', '.join(MODEL_FILES)}; missing: {', '.join(missing)}; {hint}")
    weights = folder / WEIGHTS
    model, tokenizer, encoding = ((folder / name).read_bytes() for name in MODEL_FILES)
    return _ModelFiles(model, tokenizer, encoding, weights.read_bytes() if weights.is_file() else None)


def _content_hash(files: _ModelFiles) -> str:
    """Return the SHA-256 over the SHA-256 of each file. An index stores it, and accepts no other model."""
    parts = [hashlib.sha256(part).digest() for part in files if part is not None]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidModel(f"{name} must be UTF-8, found: {error}; export the model again") from error


def _weights(data: bytes) -> dict[str, Array]:
    """Return the tensors of a safetensors file by name, without a copy. Raises `InvalidModel`.

    The format: length of the header (8 bytes, little endian), a JSON header {name: {dtype, shape, data_offsets}}, data.
    """
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        tensors = {}
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                values = np.frombuffer(memoryview(data)[start + begin : start + end], WEIGHT_TYPES[entry["dtype"]])
                tensors[name] = values.reshape(entry["shape"])
        return tensors
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidModel(
            f"{WEIGHTS} must be a safetensors file of weights, found: {error!r}; export the model again"
        ) from error


# ---- from bytes to a session


def _providers(device: str) -> list[str]:
    """Return ONNX Runtime's execution providers in order of preference.

    Raises `DeviceUnavailable` for "cuda" where ONNX Runtime was built without it.
    """
    if device == "cpu":
        return [CPU]
    available = onnxruntime.get_available_providers()
    if CUDA in available:
        return [CUDA, CPU]
    if device == "cuda":
        raise DeviceUnavailable(
            f"device='cuda' needs ONNX Runtime's CUDA build, this one offers {available}; "
            "in this environment: pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        )
    log.info("CUDA is not available here, the encoder runs on the CPU")
    return [CPU]


def _check_complete(model: bytes, weights: set[str]) -> None:
    """Raise `InvalidModel` unless every tensor is in model.onnx or in `weights`: no hash covers another file."""
    try:
        for name, is_initializer in external_tensors(model):
            if not is_initializer or name not in weights:
                raise InvalidModel(
                    f"model.onnx keeps tensor {name!r} in another file, which is never read; export the model again"
                )
    except ValueError as error:
        raise InvalidModel(f"model.onnx must be an ONNX file, found: {error}; export the model again") from error


def _check_signature(session: onnxruntime.InferenceSession, spec: EncodingSpec) -> None:
    inputs = {i.name: (i.type, len(i.shape)) for i in session.get_inputs()}
    outputs = [(o.type, len(o.shape), o.shape[-1]) for o in session.get_outputs()]
    expected = {"input_ids": ("tensor(int64)", 2), "attention_mask": ("tensor(int64)", 2)}
    if inputs != expected or outputs != [("tensor(float)", 3, spec.dim)]:
        raise InvalidModel(
            f"model.onnx must take {expected} and give one float tensor [batch, length, {spec.dim}], "
            f"found inputs {inputs} and outputs {outputs}; export the model again"
        )


# ---- forks: a child inherits the parent's encoders and their sessions

_ENCODERS: weakref.WeakSet[Encoder] = weakref.WeakSet()


def _watch_forks(encoder: Encoder) -> None:
    """Make sure that a forked child never destroys the session of `encoder`."""
    if not _ENCODERS and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_keep_sessions)
    _ENCODERS.add(encoder)


def _keep_sessions() -> None:
    """Give each inherited session one reference too many.

    A session that is destroyed joins its threads. They do not exist in the child, so it would wait forever.
    """
    for encoder in _ENCODERS:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(encoder._session))
