"""The verb that shows what refcolbert does."""

from pathlib import Path

import click

from ..docstrings import standard_library_docstrings
from ..encoder import Encoder
from ..index import Index
from ..terminal import show_hits, summary, table
from .options import MODEL

__all__ = ["DEMO_QUESTIONS", "demo"]

DEMO_QUESTIONS = (
    "how do I parse a date from a string",
    "compress a file with gzip",
    "list the files in a folder",
    "median of a list of numbers",
)


@click.command()
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
