"""Verbs that create, change, inspect and convert an index."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from ..cluster.steps import build
from ..cluster.workers import connected, local_cluster
from ..corpus.readers import PASSAGE_OF
from ..encoding.encoder import Encoder
from ..errors import RefColbertError
from ..index import NBITS, Index
from ..interchange.plaid import import_plaid
from ..interchange.vector_files import export_vectors
from ..reading import IndexReader
from ..sharded import open_index
from ..storage.remote import is_url
from ..storage.store import MANIFEST, SHARDS
from .options import (
    BITS,
    FILE,
    INDEX,
    INFO,
    MODEL,
    SAME_AS_INFO,
    TOKENIZER_CHOICES,
    IndexPath,
    bits,
    json_option,
    progress,
)
from .printing import counted, dump, pairs, summary
from .sources import Sources, read_sources, takes_documents

__all__: list[str] = []  # the package registers every click command of this module

NBITS_OPTION = click.option(
    "--nbits",
    default=str(NBITS),
    show_default=True,
    callback=lambda ctx, param, value: bits(value),
    help=f"Bits per number of a stored vector: {BITS}",
)


@click.command("index")
@INDEX
@takes_documents
@MODEL
@NBITS_OPTION
@click.option("--pool-factor", default=1, show_default=True, help="Keep one vector per this many tokens.")
@click.option(
    "--words",
    type=click.Choice([*TOKENIZER_CHOICES, "none"]),
    default="auto",
    show_default=True,
    callback=lambda ctx, param, value: None if value == "none" else value,
    help="Tokenizer of the words for --mode words and hybrid: porter for English, unicode61 for other languages with "
    "spaces, trigram for code and languages without spaces.",
)
@click.option("--workers", type=click.IntRange(1), help="Build a sharded index, with this many processes.")
@click.option("--dask", metavar="ADDRESS", help="Build a sharded index, with the workers of this Dask scheduler.")
@json_option(SAME_AS_INFO)
def index_command(
    index: Path | str,
    sources: Sources,
    model: str | None,
    workers: int | None,
    dask: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Create INDEX from DOCUMENTS: files, folders, or - for stdin.

    Reads JSONL, CSV, TSV, BEIR folders, Markdown and text, also as .gz. After an interruption the same command
    continues where it stopped. --workers and --dask need refcolbert[dask].
    """
    if workers is not None and dask is not None:
        raise click.UsageError("expected one of --workers and --dask, found both")
    encoder = Encoder.load(model)
    built: IndexReader
    try:
        if workers is None and dask is None:
            built = Index.build(index, sources.documents(encoder), encoder, progress=progress(), **options)
        else:
            parts = sources.partitions(encoder)
            with local_cluster(workers) if workers else connected(dask or "") as client:
                built = build(index, parts, client, encoder=encoder, progress=progress(), **options)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("Interrupted. The same command continues from here.") from error
    with built:
        summary(built, as_json)


@click.command("add")
@INDEX
@takes_documents
@click.option("--upsert", is_flag=True, help="Replace documents that have the same id, with all their passages.")
@MODEL
@json_option(SAME_AS_INFO)
def add_command(index: Path | str, sources: Sources, upsert: bool, model: str | None, as_json: bool) -> None:
    """Add DOCUMENTS to INDEX in one transaction. They are read as by `refcolbert index`."""
    with open_index(index, verify="fast") as unverified:
        own = unverified.info()["encoder"]
    encoder = Encoder.load(model or (own and own["source"]))
    documents = list(sources.documents(encoder))
    with open_index(index, encoder) as opened:
        if upsert:
            opened.upsert(documents, progress=progress(), group_by=PASSAGE_OF)
        else:
            opened.add(documents, progress=progress())
        summary(opened, as_json)


@click.command("sync")
@INDEX
@takes_documents
@MODEL
@click.option("--watch", is_flag=True, help="Go on: sync again whenever a file changes, until interrupted.")
@json_option("one object: added, changed, removed, unchanged")
def sync_command(index: Path | str, sources: Sources, model: str | None, watch: bool, as_json: bool) -> None:
    """Make INDEX hold exactly DOCUMENTS: new texts are added, changed ones encoded again, the others deleted.

    INDEX is created if it does not exist. Texts that have not changed are not encoded again.
    """
    with open_index(index, verify="fast") if _is_index(index) else nullcontext() as unverified:
        own = unverified.info()["encoder"] if unverified else None
    encoder = Encoder.load(model or (own and own["source"]))
    for _ in sources.changes() if watch else (None,):
        try:
            # Read before the index is made: a wrong path must not leave an empty one.
            documents = sources.documents(encoder, complete=True)
            with open_index(index, encoder) if _is_index(index) else Index.create(index, encoder) as opened:
                synced = opened.sync(documents, progress=progress())
        except RefColbertError as error:
            if not watch:
                raise
            # A file may be half written.
            click.echo(f"{index}: {error}; waiting for the next change", err=True)
            continue
        counts = ", ".join(f"{number:,} {what}" for what, number in synced._asdict().items())
        click.echo(dump(synced._asdict()) if as_json else f"{index}: {counts}")


@click.command("delete")
@INDEX
@click.argument("ids", nargs=-1, required=True)
@click.option("--group", "group_by", flag_value=PASSAGE_OF, help="IDS name whole documents: delete their passages.")
@json_option(SAME_AS_INFO)
def delete_command(index: Path | str, ids: tuple[str, ...], group_by: str | None, as_json: bool) -> None:
    """Delete documents from INDEX by id. If an id is unknown, nothing is deleted."""
    with open_index(index) as opened:
        opened.delete(ids, group_by=group_by)
        summary(opened, as_json)


@click.command("compact")
@INDEX
@click.option("--refit", is_flag=True, help="Train centroids and residual buckets again, on the current documents.")
@click.option(
    "--words",
    type=click.Choice(TOKENIZER_CHOICES),
    help="Cut the texts into words again, with this tokenizer; default: keep the words.",
)
@json_option(SAME_AS_INFO)
def compact_command(index: Path | str, refit: bool, words: str | None, as_json: bool) -> None:
    """Merge the segments of INDEX and remove deleted documents."""
    with open_index(index) as opened:
        opened.compact(refit, words=words)
        summary(opened, as_json)


@click.command("reencode")
@INDEX
@click.argument("model", required=False)
@json_option(SAME_AS_INFO)
def reencode_command(index: Path | str, model: str | None, as_json: bool) -> None:
    """Encode INDEX again with another MODEL, or with the default one. All texts are encoded in one transaction."""
    with Index.open(index) as opened:
        opened.reencode(Encoder.load(model), progress=progress())
        summary(opened, as_json)


@click.command("check")
@INDEX
@json_option(SAME_AS_INFO)
def check_command(index: Path | str, as_json: bool) -> None:
    """Verify every byte of INDEX. Data that can be computed from other data is computed again and compared."""
    with open_index(index, verify="fast") as opened:
        report = opened.check()
    sound = f"{index}: sound, {counted(report['documents'], 'document')}, {report['bytes']:,} bytes verified"
    click.echo(dump(report) if as_json else sound)


@click.command("info")
@click.argument("path", required=False, type=click.Path())
@json_option(f"{INFO}; for a model: folder, hash, dim, query_length, document_length, vocabulary, device, ...")
def info_command(path: str | None, as_json: bool) -> None:
    """Describe an index or a model: a folder, or small. Without PATH, the default model."""
    if path is not None and _is_index(path):
        with open_index(path, verify="fast") as opened:
            values = opened.info()
    else:
        values = Encoder.load(path).info()
    click.echo(dump(values) if as_json else pairs(values))


@click.command("snapshot")
@INDEX
@click.argument("target", type=IndexPath(path_type=Path))
@json_option("the object that `info --json` prints for TARGET")
def snapshot_command(index: Path | str, target: Path | str, as_json: bool) -> None:
    """Copy INDEX to TARGET, a folder or URL. The copy is consistent even while another process writes."""
    with open_index(index) as opened:
        opened.snapshot(target)
    with open_index(target, verify="fast") as copied:
        summary(copied, as_json)


@click.command("import")
@click.argument("source", type=FILE)
@INDEX
@NBITS_OPTION
@click.option("--model", help="The model that made the vectors; without it INDEX takes no text queries.")
@click.option("--documents", type=FILE, help="File with the texts and ids, in the order of SOURCE.")
@json_option(SAME_AS_INFO)
def import_command(
    source: Path, index: Path | str, nbits: int | str, model: str | None, documents: Path | None, as_json: bool
) -> None:
    """Create INDEX from the index of another engine.

    SOURCE is an index folder of fast-plaid, next-plaid or Stanford's ColBERT. The last one requires torch.
    """
    encoder = None if model is None else Encoder.load(model)
    texts = None if documents is None else read_sources((documents,))
    with import_plaid(source, index, encoder=encoder, documents=texts, nbits=nbits) as imported:
        summary(imported, as_json)


@click.command("vectors")
@INDEX
@click.argument("out", type=click.Path(path_type=Path))
@json_option("one object: path, bytes, documents, tokens, dim")
def vectors_command(index: Path | str, out: Path, as_json: bool) -> None:
    """Write the vectors of INDEX to OUT, an .npz or .safetensors file."""
    with open_index(index) as opened:
        export_vectors(opened, out)
        report = {"path": str(out), "bytes": out.stat().st_size}
        report |= {name: opened.info()[name] for name in ("documents", "tokens", "dim")}
    click.echo(dump(report) if as_json else f"{out}: {report['bytes']:,} bytes")


def _is_index(path: Path | str) -> bool:
    """True for a URL, and for a folder with an index."""
    return is_url(path) or any((Path(path) / name).exists() for name in (MANIFEST, SHARDS))
