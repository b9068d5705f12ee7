"""The command line: each verb calls the library's method of that name and prints what it returns.

Answers go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 a refcolbert error, 2 wrong usage.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import entry_points
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click

from ._version import __version__
from .docstrings import standard_library_docstrings
from .documents import Document
from .encoder import Encoder
from .errors import RefColbertError
from .evaluate import METRICS, evaluate, read_qrels, read_queries, run_of, write_run
from .importers import export_vectors, import_plaid
from .index import NBITS, Index
from .passages import read_documents
from .rerank import rerank as rerank_texts
from .terminal import curve, dump, show_hits, summary, table
from .tune import N_QUERIES, tune

__all__ = ["main"]

EXTRA_COMMANDS = "refcolbert.commands"  # the entry point group through which other packages add verbs

DEMO_QUESTIONS = (
    "how do I parse a date from a string",
    "compress a file with gzip",
    "list the files in a folder",
    "median of a list of numbers",
)


class _Commands(click.Group):
    """Our verbs and those of the entry point group; a verb's module is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, alphabetically."""
        return sorted({*super().list_commands(ctx), *(point.name for point in entry_points(group=EXTRA_COMMANDS))})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The verb of that name, or None."""
        command = super().get_command(ctx, name)
        for point in entry_points(group=EXTRA_COMMANDS, name=name) if command is None else ():
            command = point.load()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; an error of refcolbert's becomes its message and exit code 1."""
        try:
            return super().invoke(ctx)
        except RefColbertError as error:
            raise click.ClickException(f"{type(error).__name__}: {error}") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="refcolbert")
def main() -> None:
    """ColBERT retrieval in process, without torch."""


BITS = "1, 2, 4, 8, float16 or float32."
INDEX = click.argument("index", type=click.Path(path_type=Path))
SOURCES = click.argument("documents", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
MODEL = click.option("--model", help="Model folder or hub id; default: the index's own, or the default model.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
K = click.option("-k", default=10, show_default=True, help="How many answers.")
WHERE = click.option("--where", help='Metadata filter as JSON: \'{"year": {"$gte": 2020}}\'.')
NPROBE = click.option("--nprobe", type=int, help="Cells probed for each query token.")
CANDIDATES = click.option("--candidates", type=int, help="Documents ranked exactly.")
EXACT = click.option("--exact", is_flag=True, help="Rank every document.")


@main.command()
@INDEX
@SOURCES
@MODEL
@click.option("--nbits", default=str(NBITS), show_default=True, help=BITS)
@click.option("--pool-factor", default=1, show_default=True, help="Keep one vector for so many tokens of a document.")
def index(index: Path, documents: tuple[Path, ...], model: str | None, nbits: str, pool_factor: int) -> None:
    """Make INDEX from DOCUMENTS: BEIR folders, JSONL, TSV, text files, folders of text files."""
    encoder = Encoder.load(model)
    built = Index.build(index, _read(documents), encoder, progress=True, nbits=_bits(nbits), pool_factor=pool_factor)
    summary(built)


@main.command()
@INDEX
@SOURCES
@click.option("--upsert", is_flag=True, help="Replace documents whose id is there already.")
def add(index: Path, documents: tuple[Path, ...], upsert: bool) -> None:
    """Add DOCUMENTS to INDEX in one transaction."""
    with Index.open(index) as opened:
        (opened.upsert if upsert else opened.add)(list(_read(documents)))
        summary(opened)


@main.command()
@INDEX
@click.argument("ids", nargs=-1, required=True)
def delete(index: Path, ids: tuple[str, ...]) -> None:
    """Delete documents from INDEX by id."""
    with Index.open(index) as opened:
        opened.delete(ids)
        summary(opened)


@main.command()
@INDEX
@click.argument("query")
@K
@WHERE
@NPROBE
@CANDIDATES
@EXACT
@MODEL
@AS_JSON
def search(
    index: Path,
    query: str,
    k: int,
    where: str | None,
    nprobe: int | None,
    candidates: int | None,
    exact: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """The K best documents of INDEX for QUERY."""
    with _open(index, model) as opened:
        hits = opened.search(query, k, where=_json(where), nprobe=nprobe, candidates=candidates, exact=exact)
    show_hits(hits, as_json)


@main.command()
@click.argument("query")
@click.argument("texts", nargs=-1, required=True)
@K
@MODEL
@AS_JSON
def rerank(query: str, texts: tuple[str, ...], k: int, model: str | None, as_json: bool) -> None:
    """Sort TEXTS by how well they answer QUERY; no index involved."""
    show_hits(rerank_texts(query, texts, Encoder.load(model), k), as_json)


@main.command()
@INDEX
@click.argument("query")
@click.option("--id", "document_id", help="Which document; default: the best one.")
@MODEL
@AS_JSON
def explain(index: Path, query: str, document_id: str | None, model: str | None, as_json: bool) -> None:
    """Which document token of INDEX answered which token of QUERY."""
    with _open(index, model) as opened:
        if document_id is not None:
            opened.get([document_id])  # an id that is not there is an error, not an empty answer
        hits = opened.search(query, 1, ids=None if document_id is None else [document_id])
        for hit in hits:
            explanation = hit.explain()
            if as_json:
                click.echo(
                    dump({"id": hit.id, "score": hit.score, "matches": [asdict(m) for m in explanation.matches]})
                )
            else:
                click.echo(f"{hit.id}\n{table(explanation)}")


@main.command()
@click.argument("path", required=False)
def info(path: str | None) -> None:
    """What an index or a model folder holds; without PATH, the default model."""
    if path is not None and (Path(path) / "manifest.json").exists():
        with Index.open(path, verify="fast") as opened:
            found = opened.info()
    else:
        found = Encoder.load(path).info()
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))


@main.command()
@INDEX
def check(index: Path) -> None:
    """Verify every byte of INDEX and everything that can be derived again."""
    with Index.open(index, verify="fast") as opened:
        found = opened.check()
    click.echo(f"{index}: sound, {found['documents']} documents, {found['bytes']:,} bytes verified")


@main.command()
@INDEX
@click.option("--refit", is_flag=True, help="Fit centroids and residual buckets anew on what is there.")
def compact(index: Path, refit: bool) -> None:
    """Merge the segments of INDEX and drop deleted documents."""
    with Index.open(index) as opened:
        opened.compact(refit)
        summary(opened)


@main.command()
@INDEX
@click.argument("target", type=click.Path(path_type=Path))
def snapshot(index: Path, target: Path) -> None:
    """Copy INDEX to TARGET: consistent, also while another process writes."""
    with Index.open(index) as opened:
        opened.snapshot(target)
    click.echo(f"{target}: copied")


@main.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@INDEX
@click.option("--nbits", default=str(NBITS), show_default=True, help=BITS)
@click.option("--model", help="The model that made the vectors; without it INDEX takes no text queries.")
@click.option(
    "--documents", type=click.Path(exists=True, path_type=Path), help="Their texts and ids, in the order of SOURCE."
)
def import_index(source: Path, index: Path, nbits: str, model: str | None, documents: Path | None) -> None:
    """Make INDEX from SOURCE, an index folder of fast-plaid, next-plaid or, with the torch side, Stanford's ColBERT."""
    encoder = None if model is None else Encoder.load(model)
    texts = None if documents is None else _read((documents,))
    with import_plaid(source, index, encoder=encoder, documents=texts, nbits=_bits(nbits)) as imported:
        summary(imported)


@main.command()
@INDEX
@click.argument("out", type=click.Path(path_type=Path))
def vectors(index: Path, out: Path) -> None:
    """Write the vectors of INDEX to OUT, an .npz or .safetensors file."""
    with Index.open(index) as opened:
        export_vectors(opened, out)
    click.echo(f"{out}: {out.stat().st_size:,} bytes")


@main.command("eval")
@INDEX
@click.option(
    "--queries", required=True, type=click.Path(exists=True, path_type=Path), help="BEIR queries.jsonl or TSV."
)
@click.option("--qrels", required=True, type=click.Path(exists=True, path_type=Path), help="BEIR or TREC judgements.")
@click.option("--metric", "metrics", multiple=True, default=METRICS, show_default=True, help="An ir-measures name.")
@click.option("--run", "run_file", type=click.Path(path_type=Path), help="Write the answers as a TREC run.")
@click.option("-k", default=100, show_default=True, help="Depth of the run.")
@EXACT
@MODEL
@AS_JSON
def evaluate_index(
    index: Path,
    queries: Path,
    qrels: Path,
    metrics: tuple[str, ...],
    run_file: Path | None,
    k: int,
    exact: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """Run judged QUERIES on INDEX and print metrics."""
    judged = read_qrels(qrels)
    texts = {name: text for name, text in read_queries(queries).items() if name in judged}
    with _open(index, model) as opened:
        run = run_of(list(texts), opened.search_many(list(texts.values()), k, exact=exact))
    if run_file:
        write_run(run, run_file)
    found = evaluate(run, judged, metrics)
    click.echo(dump(found) if as_json else "\n".join(f"{name:10} {value:.4f}" for name, value in found.items()))


@main.command("tune")
@INDEX
@click.option("--queries", type=click.Path(exists=True, path_type=Path), help="Real ones; else sentences are drawn.")
@click.option("--target", default=0.95, show_default=True, help="Recall of the exact answer that is wanted.")
@click.option("--sample", "n_queries", default=N_QUERIES, show_default=True, help="How many queries at most.")
@K
@MODEL
@AS_JSON
def tune_index(
    index: Path, queries: Path | None, target: float, n_queries: int, k: int, model: str | None, as_json: bool
) -> None:
    """Measure recall and latency of searches in INDEX, and recommend nprobe and candidates."""
    texts = None if queries is None else list(islice(read_queries(queries).values(), n_queries))
    with _open(index, model) as opened:
        found = tune(opened, texts, k=k, target=target, n_queries=n_queries)
    click.echo(dump(asdict(found)) if as_json else curve(found))


@main.command()
@click.argument("index", default="demo.index", type=click.Path(path_type=Path))
@MODEL
def demo(index: Path, model: str | None) -> None:
    """Index the docstrings of Python's standard library, ask a few questions, explain one answer."""
    encoder = Encoder.load(model)
    if not index.exists():
        documents = standard_library_docstrings()
        click.echo(f"{len(documents)} docstrings of Python's standard library -> {index}")
        Index.build(index, documents, encoder, progress=True).close()
    with Index.open(index, encoder) as opened:
        summary(opened)
        for question in DEMO_QUESTIONS:
            click.secho(f"\n? {question}", bold=True)
            show_hits(opened.search(question, 3), as_json=False)
        question = DEMO_QUESTIONS[0]
        hit = opened.search(question, 1)[0]
        click.secho(f"\nWhy {hit.id} answers {question!r}:", bold=True)
        click.echo(table(hit.explain()))
    click.echo(f'\nTry your own: refcolbert search {index} "..."')


def _bits(nbits: str) -> int | str:
    return int(nbits) if nbits.isdigit() else nbits


def _read(sources: tuple[Path, ...]) -> Iterator[Document]:
    return chain.from_iterable(read_documents(source) for source in sources)


def _open(index: Path, model: str | None) -> Index:
    return Index.open(index, None if model is None else Encoder.load(model))


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--where") from error
