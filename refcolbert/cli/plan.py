"""The command that estimates an index."""

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
from .printing import counted, dump
from .sources import read_sources

__all__ = ["plan_index"]

SAMPLE = 1000  # documents of the sample that are read
TIMES = ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "us"))
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
COUNTS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
MEMORY = {
    "build": "peak of the build",
    "building": "disk besides the index",
    "search": "mapped by a search",
    "query": "per query",
}


@click.command("plan")
@click.argument("n_docs", metavar="N", type=click.IntRange(1))
@click.argument("sample", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--tokens", type=click.FloatRange(1), help="Mean number of tokens per document, in place of SAMPLE.")
@click.option("--text-bytes", type=click.FloatRange(0), help="Mean bytes per text, with --tokens.")
@click.option("--nbits", default=str(NBITS), show_default=True, help=f"Format that times are for: {BITS}")
@click.option("--pool-factor", default=1, show_default=True, help="Keep one vector per this many tokens.")
@click.option("--nprobe", default=NPROBE, show_default=True, help="Cells probed per query token.")
@click.option("--candidates", default=CANDIDATES, show_default=True, help="Documents that pruning keeps.")
@click.option("--dim", type=click.IntRange(1), help="Dimension of ready-made vectors: no model, no encoding.")
@click.option("--model", help="Model folder, hub id or small. Default: the default model.")
@K
@json_option("every estimate, with sizes in bytes, build in seconds and query in milliseconds")
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
    """Estimate bytes, time, FLOPs and memory of an index of N documents before it is made.

    The documents are as long as those of SAMPLE (files or folders, as for `index`), or as --tokens says. Two speeds of
    this machine are measured first, which takes some seconds. Bytes are exact for the number of tokens. Times are
    within a factor of about 2.
    """
    if (tokens is None) != bool(sample):
        raise click.UsageError("expected either SAMPLE or --tokens, found both or neither; give one of the two")
    if dim is not None and (sample or model):
        raise click.UsageError("--dim is for ready-made vectors, found SAMPLE or --model beside it; use --tokens")
    estimate = plan(
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
    click.echo(dump(asdict(estimate)) if as_json else "\n".join(_lines(estimate)))


def _lines(estimate: Plan) -> Iterable[str]:
    """Yield the lines that are printed: embeddings, bytes by number of bits, times, FLOPs, memory."""
    error = f" (+- {estimate.standard_error:.1%})" if estimate.standard_error is not None else ""
    one = f"one vector per document would be {estimate.n_docs:,}, {_short(estimate.one_vector_bytes, SIZES)} of float32"
    lengths = f"{counted(estimate.n_docs, 'document')} of {estimate.tokens_per_document:.1f}{error} tokens"
    yield f"{lengths}: {estimate.n_tokens:,} embeddings of dim {estimate.dim}; {one}"
    yield ""
    yield from _sizes(estimate.bytes_of)
    yield ""
    nbits = estimate.nbits if isinstance(estimate.nbits, str) else f"{estimate.nbits} bits"
    centroids = "raw vectors" if estimate.n_centroids is None else f"{estimate.n_centroids:,} centroids"
    yield f"at {nbits}, {centroids}; times within a factor of about 2:"
    yield _row("build", {**estimate.build, "total": sum(estimate.build.values())}, TIMES)
    query = {**estimate.query, "total": sum(estimate.query.values())}  # milliseconds
    yield _row("query", {stage: milliseconds / 1e3 for stage, milliseconds in query.items()}, TIMES)
    yield _row("FLOPs of a build", estimate.build_flops, COUNTS)
    yield _row("FLOPs of a query", estimate.flops, COUNTS)
    yield _row("memory", {name: estimate.memory[purpose] for purpose, name in MEMORY.items()}, SIZES)


def _sizes(bytes_of: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    """A column for each number of bits, a row for each part."""
    totals = {nbits: {**sizes, "total": sum(sizes.values())} for nbits, sizes in bytes_of.items()}
    parts = dict.fromkeys(part for sizes in bytes_of.values() for part in sizes)
    yield f"{'nbits':18}" + "".join(f"{nbits:>10}" for nbits in totals)
    for part in (*parts, "total"):
        cells = (_short(sizes[part], SIZES) if part in sizes else "-" for sizes in totals.values())
        yield f"{part:18}" + "".join(f"{cell:>10}" for cell in cells)


def _row(name: str, values: Mapping[str, float], units: Iterable[tuple[float, str]]) -> str:
    return f"{name:18}" + ", ".join(f"{stage} {_short(value, units)}" for stage, value in values.items())


def _short(value: float, units: Iterable[tuple[float, str]]) -> str:
    """Return the value in three digits and the unit that suits it: 0.0123 s is "12.3 ms"."""
    size, unit = next(((size, unit) for size, unit in units if value >= 0.9995 * size), [*units][-1])
    return f"{value / size:.3g} {unit}".rstrip()
