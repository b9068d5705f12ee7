"""The makers of each suite: implementations that are independent of refcolbert's engine.

scoring    MaxSim by PyLate, colbert-ai and Sentence-Transformers, each in its own environment
losses     values and gradients by torch
codec      stored tokens by `definition`, in float64 loops, away from the borders of buckets
words      BM25 by bm25s, of drawn words
rankings   colbert-ai encodes docstrings of Python's standard library with the tiny checkpoint, scores and ranks them
"""

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from refcolbert import definition
from tools import ROOT
from tools.conformance.engines import ENGINES
from tools.environments import python_of

from .cases import CASES, SEED

Made = tuple[dict[str, NDArray[Any]], dict[str, float], dict[str, Any]]  # arrays, tolerance of each, provenance
SIZES = {"usual": (32, 40, 128), "small": (5, 9, 48), "single": (1, 1, 16)}  # n_q, n_d, dim
SCORERS = {"pylate": "PyLate", "colbert-ai": "colbert-ai", "sentence-transformers": "Sentence-Transformers"}
QUERIES = (
    "how do I parse a date",
    "read a file line by line",
    "open a database",
    "sort a list of words",
    "send mail",
    "convert a string to a number",
    "call a function in another thread",
    "compress data",
    "random choice",
    "write rows of a table",
    "what time is it",
    "close the file",
)


def _g(n: int) -> float:
    return n * 2.0**-24 / (1 - n * 2.0**-24)


def unit(rng: np.random.Generator, n: int, dim: int) -> NDArray[np.float32]:
    """[n, dim] unit rows."""
    rows = rng.standard_normal((n, dim))
    units: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return units


def ask(engine: str, module: str, arrays: dict[str, NDArray[Any]], *more: str) -> Made:
    """Let a module of tools.goldens.origins answer in an engine's environment: arrays in, arrays out, versions."""
    _, environment, _ = ENGINES[engine]
    with tempfile.TemporaryDirectory() as scratch:
        given, out = Path(scratch) / "in.npz", Path(scratch) / "out.npz"
        np.savez(given, allow_pickle=False, **arrays)
        command: list[str | Path] = [python_of(environment), "-m", f"tools.goldens.origins.{module}", given, out, *more]
        offline = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        found = subprocess.run(
            command, check=True, env={**os.environ, **offline}, cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        with np.load(out) as held:
            return dict(held), {}, json.loads(found.stdout.splitlines()[-1])


def scoring(name: str) -> Made:
    """Pairs of three sizes, on unit vectors, and one whose similarities are all negative."""
    rng, arrays, tolerance = np.random.default_rng(SEED), {}, {}
    for size, (n_q, n_d, dim) in SIZES.items():
        arrays[f"q_{size}"], arrays[f"d_{size}"] = unit(rng, n_q, dim), unit(rng, n_d, dim)
        tolerance[f"score_{size}"] = n_q * _g(dim + n_q)
    arrays["q_negative"], arrays["d_negative"] = np.abs(arrays["q_small"]), -np.abs(arrays["d_small"])
    tolerance["score_negative"] = tolerance["score_small"]
    engine = SCORERS[name]
    found, _, versions = ask(engine, "scores", arrays, ENGINES[engine][0])
    return {**arrays, **found}, {**dict.fromkeys(arrays, 0.0), **tolerance}, {"versions": versions}


def losses(name: str) -> Made:
    """Four draws of scores, the loss and its gradient by torch in float64."""
    rng, rows = np.random.default_rng(SEED), 3
    pair = name.startswith("pairwise")
    shape = (4, 2) if pair else (4, 5) if name == "n_way" else (4, rows, rows)
    arrays: dict[str, NDArray[Any]] = {"scores": rng.normal(0, 2, shape)}
    if name == "in_batch":
        arrays["temperature"] = np.array([1.0, 0.5, 2.0, 20.0])
    elif name in ("kl_divergence", "margin_mse"):
        arrays["teacher"] = rng.normal(0, 2, shape)
    values, gradients = [], []
    for i, scores in enumerate(arrays["scores"]):
        s = torch.tensor(scores, requires_grad=True)
        loss = _loss(name, s, {key: torch.tensor(value[i]) for key, value in arrays.items() if key != "scores"})
        loss.backward()  # type: ignore[no-untyped-call]
        values.append(float(loss.detach()))
        gradients.append(s.grad.numpy() if s.grad is not None else scores * 0)
    given = dict.fromkeys(arrays, 0.0)
    arrays |= {"loss": np.array(values), "gradient": np.array(gradients)}
    return arrays, {**given, "loss": 1e-6, "gradient": 1e-4}, {"versions": {"torch": torch.__version__}}


def _loss(name: str, s: torch.Tensor, more: dict[str, torch.Tensor]) -> torch.Tensor:
    if name == "pairwise_hinge":
        return functional.margin_ranking_loss(s[:1], s[1:], torch.ones(1), margin=1.0)
    if name in ("pairwise_softmax", "n_way"):
        return functional.cross_entropy(s[None], torch.zeros(1, dtype=torch.long))
    if name == "in_batch":
        return functional.cross_entropy(s / more["temperature"], torch.arange(len(s)))
    if name == "kl_divergence":
        log = functional.log_softmax
        return functional.kl_div(log(s, dim=1), log(more["teacher"], dim=1), reduction="batchmean", log_target=True)
    t = more["teacher"]
    return functional.mse_loss(s[:, :1] - s[:, 1:], t[:, :1] - t[:, 1:])


def codec(name: str) -> Made:
    """60 vectors, 6 centroids: codes, packed buckets, scales and spread numbers, and the vectors that come back."""
    nbits, rng = int(name[0]), np.random.default_rng(SEED)
    dim = 12
    centroids: Any = unit(rng, 6, dim)
    steps: Any = (np.array([1.1, 0.9, 1, 1, 1.2, 0.8, 1, 1, 1, 1, 1, 1]) * 1.5 / 2**nbits).astype(np.float32)
    vectors: list[Any] = []
    while len(vectors) < 60:
        x = centroids[len(vectors) % 6] + 0.5 * unit(rng, 1, dim)[0]
        x = (x / np.linalg.norm(x) * rng.choice([1, 1, 7])).astype(np.float32)
        if _is_clear(x, centroids, steps, nbits):
            vectors.append(x)
    stored = [definition.encode(x.tolist(), centroids.tolist(), steps.tolist(), nbits) for x in vectors]
    arrays = {
        "vectors": np.array(vectors),
        "centroids": centroids,
        "steps": steps,
        "codes": np.array([s[0] for s in stored], np.uint16),
        "residuals": np.array([list(definition.pack(s[1], nbits)) for s in stored], np.uint8),
        "scales": np.array([s[2] for s in stored], np.float16),
        "spreads": np.array([s[3] for s in stored], np.uint8),
        "decoded": np.array([definition.decode(*s, centroids.tolist(), steps.tolist(), nbits) for s in stored]),
    }
    largest = float(np.abs(arrays["decoded"]).max())
    tolerance = {**dict.fromkeys(arrays, 0.0), "scales": float(np.spacing(np.float16(8))), "decoded": largest * 2.0**-9}
    source = {"definition.py": hashlib.sha256((ROOT / "refcolbert" / "definition.py").read_bytes()).hexdigest()}
    return arrays, tolerance, {"source": source}


def _is_clear(x: Any, centroids: Any, steps: Any, nbits: int) -> bool:
    """True if float32 rounding cannot move any part of a vector to another bucket."""
    exact: NDArray[np.float64] = np.array(definition.normalized(x))
    similar = np.sort(centroids.astype(np.float64) @ exact)
    code, _, _, number = definition.encode(x, centroids, steps, nbits)
    residual = exact - centroids[code]
    places = residual / (definition.spread(number) * steps.astype(np.float64))
    exponent = 32 * (0.5 - np.log2(np.linalg.norm(residual)))
    borders = np.abs(places - np.rint(places)).min() > 1e-4
    return bool(similar[-1] - similar[-2] > 1e-4 and borders and abs(exponent - np.floor(exponent) - 0.5) > 1e-3)


def rankings(name: str) -> Made:
    """40 docstrings and 12 questions through colbert-ai's tokenizers, model and score."""
    from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings
    from tools.goldens.tiny_model import write_checkpoint

    documents = standard_library_docstrings()
    texts = [d.text for d in documents[:: len(documents) // 40]][:40]
    given = {"queries": np.array(QUERIES), "documents": np.array(texts)}
    with tempfile.TemporaryDirectory() as scratch:
        write_checkpoint(Path(scratch) / "tiny")
        weights = (Path(scratch) / "tiny" / "model.safetensors").read_bytes()
        found, _, versions = ask("colbert-ai", "ranking", given, str(Path(scratch) / "tiny"))
    bound = 32 * _g(16 + 32)
    tolerance = {
        **dict.fromkeys(given, 0.0),
        "scores": 32 * 1e-5 + bound,
        "order": 0.0,
        "vectors": 1e-5,
        "lengths": 0.0,
    }
    tolerance["query_vectors"] = 1e-5
    source = {"checkpoint": hashlib.sha256(weights).hexdigest(), "texts": "docstrings of Python's standard library"}
    return {**given, **found}, tolerance, {"versions": versions, "source": source}


def words(name: str) -> Made:
    """60 documents of common and rare words and 20 queries, some words repeated, scored by bm25s in float64."""
    rng, vocabulary = np.random.default_rng(SEED), np.array([f"word{i}" for i in range(60)])
    common = 1 / np.arange(1, 61)
    arrays = {
        side: np.array(
            [" ".join(rng.choice(vocabulary, n, p=common / common.sum())) for n in rng.integers(1, most, count)]
        )
        for side, most, count in (("documents", 40, 60), ("queries", 8, 20))
    }
    found, _, versions = ask(name, "words", arrays)
    tolerance = {**dict.fromkeys(arrays, 0.0), "scores": float(found["scores"].max()) * 2.0**-44}
    return {**arrays, **found}, tolerance, {"versions": versions}


MAKERS: dict[str, Callable[[str], Made]] = {
    "scoring": scoring,
    "losses": losses,
    "codec": codec,
    "rankings": rankings,
    "words": words,
}
SUITES = {suite: (make, CASES[suite]) for suite, make in MAKERS.items()}
