"""Verbs that make, change and look after an index."""

import json
from pathlib import Path

import click

from ..encoder import Encoder
from ..importers import export_vectors, import_plaid
from ..index import NBITS, Index
from ..terminal import summary
from .options import BITS, INDEX, MODEL, SOURCES, bits, read_sources

__all__ = ["add", "check", "compact", "delete", "import_index", "index", "info", "snapshot", "vectors"]


@click.command()
@INDEX
@SOURCES
@MODEL
@click.option("--nbits", default=str(NBITS), show_default=True, help=BITS)
@click.option("--pool-factor", default=1, show_default=True, help="Keep one vector for so many tokens of a document.")
def index(index: Path, documents: tuple[Path, ...], model: str | None, nbits: str, pool_factor: int) -> None:
    """Make INDEX from DOCUMENTS: BEIR folders, JSONL, TSV, text files, folders of text files."""
    encoder = Encoder.load(model)
    built = Index.build(
        index, read_sources(documents), encoder, progress=True, nbits=bits(nbits), pool_factor=pool_factor
    )
    summary(built)


@click.command()
@INDEX
@SOURCES
@click.option("--upsert", is_flag=True, help="Replace documents whose id is there already.")
def add(index: Path, documents: tuple[Path, ...], upsert: bool) -> None:
    """Add DOCUMENTS to INDEX in one transaction."""
    with Index.open(index) as opened:
        (opened.upsert if upsert else opened.add)(list(read_sources(documents)))
        summary(opened)


@click.command()
@INDEX
@click.argument("ids", nargs=-1, required=True)
def delete(index: Path, ids: tuple[str, ...]) -> None:
    """Delete documents from INDEX by id."""
    with Index.open(index) as opened:
        opened.delete(ids)
        summary(opened)


@click.command()
@INDEX
@click.option("--refit", is_flag=True, help="Fit centroids and residual buckets anew on what is there.")
def compact(index: Path, refit: bool) -> None:
    """Merge the segments of INDEX and drop deleted documents."""
    with Index.open(index) as opened:
        opened.compact(refit)
        summary(opened)


@click.command()
@INDEX
def check(index: Path) -> None:
    """Verify every byte of INDEX and everything that can be derived again."""
    with Index.open(index, verify="fast") as opened:
        found = opened.check()
    click.echo(f"{index}: sound, {found['documents']} documents, {found['bytes']:,} bytes verified")


@click.command()
@click.argument("path", required=False)
def info(path: str | None) -> None:
    """What an index or a model folder holds; without PATH, the default model."""
    if path is not None and (Path(path) / "manifest.json").exists():
        with Index.open(path, verify="fast") as opened:
            found = opened.info()
    else:
        found = Encoder.load(path).info()
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))


@click.command()
@INDEX
@click.argument("target", type=click.Path(path_type=Path))
def snapshot(index: Path, target: Path) -> None:
    """Copy INDEX to TARGET: consistent, also while another process writes."""
    with Index.open(index) as opened:
        opened.snapshot(target)
    click.echo(f"{target}: copied")


@click.command("import")
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
    texts = None if documents is None else read_sources((documents,))
    with import_plaid(source, index, encoder=encoder, documents=texts, nbits=bits(nbits)) as imported:
        summary(imported)


@click.command()
@INDEX
@click.argument("out", type=click.Path(path_type=Path))
def vectors(index: Path, out: Path) -> None:
    """Write the vectors of INDEX to OUT, an .npz or .safetensors file."""
    with Index.open(index) as opened:
        export_vectors(opened, out)
    click.echo(f"{out}: {out.stat().st_size:,} bytes")
