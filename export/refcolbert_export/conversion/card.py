"""The README.md of an exported model folder."""

from collections.abc import Sequence
from typing import Any

from refcolbert.encoding.spec import EncodingSpec

__all__ = ["model_card"]

CARD = """# {name}, exported by refcolbert

A ColBERT model as ONNX: `model.onnx`, `tokenizer.json`, and `encoding.json`, which holds every switch of its encoding.

    encoder = refcolbert.Encoder.load("path/of/this/folder")

| | |
|---|---|
| checkpoint | {source} |
| checkpoint layout | {layout} |
| vectors | {dim} columns, float32, unit length |
| query | at most {query_length} tokens, {expansion} |
| document | at most {document_length} tokens, {skipped} token ids dropped |
| precision | {variant} |
| speed where it was exported | {query_ms} ms per query, {document_tokens_per_second} document tokens per second |
| transformers | {saved} exported with {transformers} |
| content hash | {hash} |

Compared with the checkpoint on {texts} texts and {shapes} shapes (`parity.json`): ids, attention and kept rows equal,
largest difference of a component {max_abs:.1e}, smallest cosine {min_cosine:.7f}.
"""

EXPECTED = """
Compared with its author's vectors of {texts} texts (`{file}`): largest difference of a component {max_abs:.1e},
smallest cosine {min_cosine:.7f}.
"""

NOTES = """
## Know before use

{notes}
"""


def model_card(name: str, spec: EncodingSpec, report: dict[str, Any], notes: Sequence[str] = ()) -> str:
    """The card as Markdown: contents of the folder, agreement with the checkpoint, and warnings from `notes`."""
    files = report["unread_keys"].items()
    notes = [
        *notes,
        *(f"{file} has keys that are not known here: {', '.join(keys)}." for file, keys in files),
    ]
    attended = "attended" if spec.expansion_attended else "not attended"
    source = report["source"]
    card = CARD.format(
        name=source["repository"] if source else name,
        source="{repository}, commit {revision}".format(**source) if source else f"the folder {name}",
        layout=report["layout"],
        dim=spec.dim,
        query_length=spec.query_length,
        document_length=spec.document_length,
        expansion="no expansion" if spec.expansion_id is None else f"filled up with id {spec.expansion_id}, {attended}",
        skipped=len(spec.skiplist),
        hash=report["model"],
        texts=len(report["texts"]),
        shapes=len(report["shapes"]),
        variant=report["variant"],
        saved=f"saved with {report['saved_with']}," if report.get("saved_with") else "",
        transformers=report["transformers"],
        **report["speed"],
        **report["worst"],
    )
    if "expected" in report:
        card += EXPECTED.format(**report["expected"], **report["expected"]["worst"])
    return card + (NOTES.format(notes="\n".join(f"- {note}" for note in notes)) if notes else "")
