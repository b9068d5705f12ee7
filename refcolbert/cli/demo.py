"""The verb that shows what refcolbert does."""

from pathlib import Path

import click

from ..corpus.stdlib_docstrings import standard_library_docstrings
from ..encoding.encoder import Encoder
from ..index import Index
from ..reading import IndexReader
from ..sharded import open_index
from .options import HIT, MODEL, json_option, progress
from .printing import colors, dump, show_explanation, show_hits, summary

__all__ = ["DEMO_QUESTIONS"]

# Their first answers are right with the docstrings of Python 3.11, 3.12 and 3.13. The answer to the first one, which is
# explained, has neither "secure" nor "password".
DEMO_QUESTIONS = (
    "generate a secure random password",
    "open a web page in a browser",
    "send an email",
    "median of a list of numbers",
)


@click.command("demo")
@click.argument("index", default="demo.index", type=click.Path(path_type=Path))
@MODEL
@json_option(f"one object per line: question, hits; each hit: {HIT}")
def demo_command(index: Path, model: str | None, as_json: bool) -> None:
    """Index and search Python's docstrings. Answers a few questions, and explains one answer."""
    encoder = Encoder.load(model)
    if not index.exists():
        documents = standard_library_docstrings()
        click.echo(f"{len(documents)} docstrings of Python's standard library -> {index}", err=as_json)
        Index.build(index, documents, encoder, progress=progress()).close()
    with open_index(index, encoder) as opened:
        if as_json:
            for question in DEMO_QUESTIONS:
                click.echo(dump({"question": question, "hits": opened.search(question, 3).to_dicts()}))
        else:
            _show(opened)
            click.echo(f'\nTry your own: refcolbert search {index} "..."')


def _show(opened: IndexReader) -> None:
    """Print the questions with their answers, and an explanation of the first answer."""
    summary(opened)
    for question in DEMO_QUESTIONS:
        click.secho(f"\n? {question}", bold=True)
        show_hits(opened.search(question, 3), as_json=False)
    question = DEMO_QUESTIONS[0]
    hit = opened.search(question, 1)[0]
    click.secho(f"\nWhy {hit.id} answers {question!r}:", bold=True)
    show_explanation(hit.explain(), colors())
