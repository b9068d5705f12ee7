"""The verb that foretells an index."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import click

from ..encoding.encoder import Encoder
from ..engine.search import CANDIDATES, NPROBE
from ..evaluation.plan import Plan, plan
from ..index import NBITS
from .options import BITS, K, bits, json_option
from .printing import dump
from .sources import read_sources

__all__ = ["plan_index"]

SAMPLE = 1000  # documents of the sample that are read
UNITS = ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "us"))


@click.command("plan")
@click.argument("n_docs", metavar="N", type=click.IntRange(1))
@click.argument("sample", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--tokens", type=click.FloatRange(1), help="Mean length of a document; instead of SAMPLE.")
@click.option("--text-bytes", type=click.FloatRange(0), help="Mean bytes of a text; without SAMPLE.")
@click.option("--nbits", default=str(NBITS), show_default=True, help=f"Bits that times are for: {BITS}")
@click.option("--pool-factor", default=1, show_default=True, help="Keep one vector for so many tokens of a document.")
@click.option("--nprobe", default=NPROBE, show_default=True, help="Cells probed for each query token.")
@click.option("--candidates", default=CANDIDATES, show_default=True, help="Documents whose vectors are looked at.")
@click.option("--dim", type=click.IntRange(1), help="Of ready-made vectors: no model is loaded, nothing encoded.")
@click.option("--model", help="Model folder or hub id; default: the default model.")
@K
@json_option("every figure, sizes in bytes, build in seconds, query in milliseconds")
def plan_index(
    n_docs: int,
    sample: tuple[Path, ...],
    tokens: float | None,
    text_bytes: float | None,
    nbits: str,
    pool_factor: int,
    nprobe: int,
    candidates: int,
    dim: int | None,
    model: str | None,
    k: int,
    as_json: bool,
) -> None:
    """What an index of N documents like those of SAMPLE will take: bytes, building, latency, FLOPs, memory.

    SAMPLE are files or folders as for `index`; instead of them, --tokens gives the length. This machine is measured
    for some seconds.
    """
    if (tokens is None) != bool(sample):
        raise click.UsageError("documents are as long as --tokens says or as those of SAMPLE: give one of the two")
    if dim is not None and (sample or model):
        raise click.UsageError("--dim is for ready-made vectors: it goes with --tokens, and without --model")
    found = plan(
        n_docs,
        tokens,
        sample=list(islice(read_sources(sample), SAMPLE)) if sample else None,
        encoder=None if dim else Encoder.load(model),
        dim=dim,
        nbits=bits(nbits),
        pool_factor=pool_factor,
        text_bytes=text_bytes,
        k=k,
        nprobe=nprobe,
        candidates=candidates,
    )
    click.echo(dump(asdict(found)) if as_json else "\n".join(_lines(found)))


def _lines(found: Plan) -> Iterable[str]:
    error = f" (+- {found.standard_error:.1%})" if found.standard_error is not None else ""
    one = f"one vector a document would be {found.n_docs:,}, {_size(found.one_vector_bytes)} of float32"
    lengths = f"{found.n_docs:,} documents of {found.tokens_per_document:.1f}{error} tokens"
    yield f"{lengths}: {found.n_tokens:,} embeddings of dim {found.dim}; {one}"
    yield ""
    yield from _sizes(found.bytes_of)
    yield ""
    centroids = "raw vectors, no codec" if found.n_centroids is None else f"{found.n_centroids:,} centroids"
    yield f"{'at ' + found.nbits if isinstance(found.nbits, str) else f'at {found.nbits} bits'}, {centroids}:"
    yield _row("build", {stage: _time(seconds) for stage, seconds in _with_total(found.build).items()})
    yield _row("query", {stage: _time(ms / 1e3) for stage, ms in _with_total(found.query).items()})
    yield _row("FLOPs a query", {stage: f"{flops:.2g}" for stage, flops in found.flops.items()})
    yield _row("memory", {name: _size(found.memory[what]) for what, name in MEMORY.items()})


MEMORY = {
    "build": "most while building",
    "building": "disk besides the index",
    "search": "mapped by a search",
    "query": "of one query",
}


def _sizes(bytes_of: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    """A column for each number of bits, a row for each part."""
    parts = [part for part in _order(bytes_of) if any(part in sizes for sizes in bytes_of.values())]
    yield f"{'nbits':16}" + "".join(f"{nbits:>10}" for nbits in bytes_of)
    for part in parts:
        yield f"{part:16}" + "".join(
            f"{_size(sizes[part]) if part in sizes else '-':>10}" for sizes in bytes_of.values()
        )
    yield f"{'total':16}" + "".join(f"{_size(sum(sizes.values())):>10}" for sizes in bytes_of.values())


def _order(bytes_of: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    return dict.fromkeys(part for sizes in bytes_of.values() for part in sizes)


def _with_total(stages: Mapping[str, float]) -> dict[str, float]:
    return {**stages, "total": sum(stages.values())}


def _row(name: str, values: Mapping[str, str]) -> str:
    return f"{name:16}" + ", ".join(f"{what} {value}" for what, value in values.items())


def _size(size: float) -> str:
    """Three digits in decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def _time(seconds: float) -> str:
    """Three digits in the largest unit that fits."""
    length, unit = next(((length, unit) for length, unit in UNITS if seconds >= length), UNITS[-1])
    return f"{seconds / length:.3g} {unit}"
