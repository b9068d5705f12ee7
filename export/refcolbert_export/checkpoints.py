"""Which layout a checkpoint folder has. One reader per layout, all yielding the same `Checkpoint`.

Nothing after this module knows a layout's name but `reference`, which must not share code with the readers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refcolbert.errors import UnsupportedCheckpoint
from refcolbert.spec import EncodingSpec

from .colbert import ColbertModel
from .stanford import is_stanford, read_stanford

__all__ = ["LAYOUTS", "Checkpoint", "layout_of", "read_checkpoint"]

Parts = tuple[ColbertModel, EncodingSpec, str]  # the model, how it encodes, its tokenizer.json


@dataclass(frozen=True, slots=True)
class Layout:
    """How to recognize and to read one kind of folder."""

    name: str
    recognizes: Callable[[Path], bool]
    read: Callable[[Path, bool], Parts]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained model in torch, whatever layout it came in."""

    layout: str
    model: ColbertModel
    spec: EncodingSpec
    tokenizer_json: str


LAYOUTS = (Layout("stanford", is_stanford, read_stanford),)


def layout_of(folder: Path) -> Layout:
    """The first layout that recognizes the folder. Raises `UnsupportedCheckpoint`."""
    if not folder.is_dir():
        raise UnsupportedCheckpoint(f"expected a checkpoint folder, found nothing at {folder}")
    for layout in LAYOUTS:
        if layout.recognizes(folder):
            return layout
    raise UnsupportedCheckpoint(
        f"{folder} has none of the known layouts ({', '.join(layout.name for layout in LAYOUTS)}); "
        f"it holds {', '.join(sorted(p.name for p in folder.iterdir())[:12]) or 'nothing'}"
    )


def read_checkpoint(folder: Path, trust_remote_code: bool = False) -> Checkpoint:
    """Read the folder with the reader of its layout. Raises `UnsupportedCheckpoint`."""
    layout = layout_of(folder)
    model, spec, tokenizer_json = layout.read(folder, trust_remote_code)
    return Checkpoint(layout.name, model.eval(), spec, tokenizer_json)
