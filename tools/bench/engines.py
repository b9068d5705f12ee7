"""The engines that are compared: where each runs, over which grid, and the processes that build and search."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tools import ROOT
from tools.bench.peers.protocol import Job
from tools.environments import python_of

__all__ = ["ENGINES", "Engine", "run"]

POOLS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")

Points = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """One line of the comparison."""

    name: str
    module: str  # of tools.bench.peers
    environment: str | None  # one of `tools.environments`; None: this interpreter
    points: Points = field(default_factory=lambda: [{}])
    index: str | None = None  # whose index it searches; None: it has none
    settings: dict[str, str] = field(default_factory=dict)  # environment variables of its searches
    kind: str = "search"  # or "rerank"
    note: str = ""


def _grid(names: str, *values: tuple[Any, ...]) -> Points:
    return [dict(zip(names.split(), point, strict=True)) for point in values]


OURS = (
    (1, 32),
    (1, 64),
    (2, 80),
    (2, 96),
    (2, 112),
    (2, 128),
    (4, 128),
    (4, 192),
    (4, 256),
    (8, 512),
    (16, 1024),
    (32, 2048),
)
FAST_PLAID = ((8, 4096), (8, 1024), (4, 1024), (4, 512), (2, 512), (1, 256))  # the first is its default
COLBERT_AI = ((1, 0.5, 256), (2, 0.45, 1024), (4, 0.4, 4096), (2, 0.4, 512), (4, 0.4, 1024))  # k = 10, 100, 1000, ...
TACHIOM = ((5, 10, 100, 0.45), (10, 15, 200, 0.45), (40, 60, 500, 0.35), (80, 120, 1000, 0.3), (160, 240, 2000, 0.25))
ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}

_LIST = (
    Engine("brute force", "brute", None, note="float32 in NumPy: the truth"),
    Engine(
        "refcolbert",
        "refcolbert",
        None,
        _grid("nprobe candidates", *OURS),
        "refcolbert",
        note="one thread",
    ),
    Engine(
        "refcolbert, 2 threads",
        "refcolbert",
        None,
        [{**point, "threads": 2} for point in _grid("nprobe candidates", *OURS)],
        "refcolbert",
        ONE_BLAS_THREAD,
        note="two of its own, one of BLAS: they share a query, in a batch two queries run at a time",
    ),
    Engine(
        "fast-plaid",
        "fast_plaid",
        "peers",
        _grid("n_ivf_probe n_full_scores", *FAST_PLAID),
        "fast-plaid",
        note="its first line is its defaults",
    ),
    Engine(
        "colbert-ai",
        "colbert_ai",
        "stanford",
        _grid("ncells centroid_score_threshold ndocs", *COLBERT_AI),
        "colbert-ai",
        note="C++ on a CPU; its first three lines are its defaults at k = 10, 100 and 1000",
    ),
    Engine(
        "xtr-warp-rs",
        "xtr_warp",
        "peers",
        [{"num_threads": 1}, {"num_threads": 2}, *_grid("nprobe num_threads", (8, 2), (16, 2), (32, 2), (64, 2))],
        "xtr-warp-rs",
        note="its first line is its defaults",
    ),
    Engine(
        "tachiom",
        "tachiom",
        "tachiom",
        [{}, *_grid("k_centroids ef_search k_docs_to_score alpha", *TACHIOM)],
        "tachiom",
        note="32 bytes per token, and centroids; one thread per query; its first line is its defaults",
    ),
    Engine("maxsim-cpu", "maxsim_cpu", "peers", kind="rerank", note="float32 as it is"),
    Engine("refcolbert.maxsim", "refcolbert_maxsim", None, kind="rerank", note="float32 as it is"),
)
ENGINES = {engine.name: engine for engine in _LIST}


def run(engine: Engine, stage: str, job: Job) -> None:
    """One stage in a process of its own, with `job.threads` threads for whatever pool it has."""
    python = python_of(engine.environment)
    index, out = Path(job.index), Path(job.out)
    if stage == "build":
        shutil.rmtree(index, ignore_errors=True)
    index.mkdir(parents=True, exist_ok=True)
    job = replace(job, out=f"{out}.part")
    variables = {name: str(job.threads) for name in POOLS}
    variables |= {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": "",
        "CUDA_VISIBLE_DEVICES": "",
    }
    variables |= engine.settings if stage == "search" else {}
    command: list[str | Path] = [
        python,
        "-m",
        f"tools.bench.peers.{engine.module}",
        stage,
        job.write(out.with_suffix(".job")),
    ]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **variables})
    Path(job.out).rename(out)
