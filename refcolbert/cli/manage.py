"""Verbs that make, change and look after an index."""

from pathlib import Path

import click

from ..corpus.readers import PASSAGE_OF
from ..encoding.encoder import Encoder
from ..index import NBITS, Index
from ..interchange.plaid import import_plaid
from ..interchange.vector_files import export_vectors
from .options import BITS, INDEX, INFO, MODEL, SAME_AS_INFO, bits, json_option, progress
from .printing import dump, pairs, summary
from .sources import documents_of, read_sources, takes_documents

__all__ = ["add", "check", "compact", "delete", "import_index", "index", "info", "reencode", "snapshot", "vectors"]


@click.command()
@INDEX
@takes_documents
@MODEL
@click.option("--nbits", default=str(NBITS), show_default=True, help=BITS)
@click.option("--pool-factor", default=1, show_default=True, help="Keep one vector for so many tokens of a document.")
@json_option(SAME_AS_INFO)
def index(
    index: Path,
    documents: tuple[Path, ...],
    layout: str | None,
    passages: int | str | None,
    overlap: int | None,
    model: str | None,
    nbits: str,
    pool_factor: int,
    as_json: bool,
) -> None:
    """Make INDEX from DOCUMENTS: files, folders, or - for stdin.

    JSONL, CSV, TSV, BEIR folders, Markdown, text, and any of these as .gz. After an interruption the same command goes
    on where it stopped.
    """
    encoder = Encoder.load(model)
    found = documents_of(documents, layout, passages, overlap, encoder)
    try:
        built = Index.build(index, found, encoder, progress=progress(), nbits=bits(nbits), pool_factor=pool_factor)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("Interrupted; the same command goes on from here.") from error
    with built:
        summary(built, as_json)


@click.command()
@INDEX
@takes_documents
@click.option("--upsert", is_flag=True, help="Replace documents whose id is there already, and all their passages.")
@MODEL
@json_option(SAME_AS_INFO)
def add(
    index: Path,
    documents: tuple[Path, ...],
    layout: str | None,
    passages: int | str | None,
    overlap: int | None,
    upsert: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """Add DOCUMENTS to INDEX in one transaction; they are read as by `index`."""
    encoder = _encoder_of(index, model)
    found = list(documents_of(documents, layout, passages, overlap, encoder))
    with Index.open(index, encoder) as opened:
        if upsert:
            opened.upsert(found, progress=progress(), group_by=PASSAGE_OF)
        else:
            opened.add(found, progress=progress())
        summary(opened, as_json)


@click.command()
@INDEX
@click.argument("ids", nargs=-1, required=True)
@click.option("--group", is_flag=True, help="IDS name whole documents: delete all passages of each.")
@json_option(SAME_AS_INFO)
def delete(index: Path, ids: tuple[str, ...], group: bool, as_json: bool) -> None:
    """Delete documents from INDEX by id: all of them, or none if one is unknown."""
    with Index.open(index) as opened:
        opened.delete(ids, group_by=PASSAGE_OF if group else None)
        summary(opened, as_json)


@click.command()
@INDEX
@click.option("--refit", is_flag=True, help="Fit centroids and residual buckets anew on what is there.")
@json_option(SAME_AS_INFO)
def compact(index: Path, refit: bool, as_json: bool) -> None:
    """Merge the segments of INDEX and drop deleted documents."""
    with Index.open(index) as opened:
        opened.compact(refit)
        summary(opened, as_json)


@click.command()
@INDEX
@click.argument("model")
@json_option(SAME_AS_INFO)
def reencode(index: Path, model: str, as_json: bool) -> None:
    """Encode every text of INDEX again with another MODEL, in one transaction."""
    with Index.open(index) as opened:
        opened.reencode(Encoder.load(model), progress=progress())
        summary(opened, as_json)


@click.command()
@INDEX
@json_option(SAME_AS_INFO)
def check(index: Path, as_json: bool) -> None:
    """Verify every byte of INDEX and everything that can be derived again."""
    with Index.open(index, verify="fast") as opened:
        found = opened.check()
    sound = f"{index}: sound, {found['documents']} documents, {found['bytes']:,} bytes verified"
    click.echo(dump(found) if as_json else sound)


@click.command()
@click.argument("path", required=False, type=click.Path())
@json_option(f"{INFO}; of a model: folder, hash, dim, query_length, document_length, vocabulary, device, ...")
def info(path: str | None, as_json: bool) -> None:
    """What an index or a model folder holds; without PATH, the default model."""
    if path is not None and (Path(path) / "manifest.json").exists():
        with Index.open(path, verify="fast") as opened:
            found = opened.info()
    else:
        found = Encoder.load(path).info()
    click.echo(dump(found) if as_json else pairs(found))


@click.command()
@INDEX
@click.argument("target", type=click.Path(path_type=Path))
@json_option("what `info --json` prints, of TARGET")
def snapshot(index: Path, target: Path, as_json: bool) -> None:
    """Copy INDEX to TARGET: consistent, also while another process writes."""
    with Index.open(index) as opened:
        opened.snapshot(target)
    with Index.open(target, verify="fast") as copied:
        summary(copied, as_json)


@click.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@INDEX
@click.option("--nbits", default=str(NBITS), show_default=True, help=BITS)
@click.option("--model", help="The model that made the vectors; without it INDEX takes no text queries.")
@click.option(
    "--documents", type=click.Path(exists=True, path_type=Path), help="Their texts and ids, in the order of SOURCE."
)
@json_option(SAME_AS_INFO)
def import_index(
    source: Path, index: Path, nbits: str, model: str | None, documents: Path | None, as_json: bool
) -> None:
    """Make INDEX from SOURCE, an index folder of fast-plaid, next-plaid or, with the torch side, Stanford's ColBERT."""
    encoder = None if model is None else Encoder.load(model)
    texts = None if documents is None else read_sources((documents,))
    with import_plaid(source, index, encoder=encoder, documents=texts, nbits=bits(nbits)) as imported:
        summary(imported, as_json)


@click.command()
@INDEX
@click.argument("out", type=click.Path(path_type=Path))
@json_option("one object: path, bytes, documents, tokens, dim")
def vectors(index: Path, out: Path, as_json: bool) -> None:
    """Write the vectors of INDEX to OUT, an .npz or .safetensors file."""
    with Index.open(index) as opened:
        export_vectors(opened, out)
        found = {"path": str(out), "bytes": out.stat().st_size}
        found |= {name: opened.info()[name] for name in ("documents", "tokens", "dim")}
    click.echo(dump(found) if as_json else f"{out}: {found['bytes']:,} bytes")


def _encoder_of(index: Path, model: str | None) -> Encoder:
    """The model that is named, or else the one that the index was made with."""
    with Index.open(index, verify="fast") as opened:
        entry = opened.info()["encoder"]
    return Encoder.load(model or (entry and entry["source"]))
