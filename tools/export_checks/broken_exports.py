"""Break the export in one place at a time; the parity gate must refuse every one.

    python -m tools.export_checks.broken_exports [--only WORD]

Each mutant exports a golden checkpoint with one thing wrong: a switch of the spec, an id of a skiplist, a step of the
tokenizer, a tensor, a layer of the head, a node of the graph. Prints each mutant that the gate accepts, and the
number of refused ones. Changes without an effect on vectors are not tried: a bias of attention keys (softmax cancels
it), the padding id (nothing is padded), a skipped id that no text can spell. GELU by its tanh formula is not tried
either, because its differences stay below the gate's 1e-4.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from onnx import ModelProto, numpy_helper
from tokenizers import Tokenizer

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import RefColbertError
from refcolbert_export.conversion import colbert
from refcolbert_export.graph.to_onnx import to_onnx
from refcolbert_export.layouts.checkpoints import Checkpoint, read_checkpoint
from tools import ROOT

__all__ = ["SPECS", "is_refused", "mutants"]

GOLDEN = ROOT / "golden" / "encode"
SPECS = (
    *("stanford-bert", "stanford-attended", "stanford-xlm-roberta", "pylate-bert", "pylate-attended", "pylate-roberta"),
    *("pylate-unexpanded", "pylate-lowercase", "pylate-prompted", "multivector-bert", "multivector-min"),
    *("multivector-both-sides", "multivector-prompted", "multivector-only"),
)
TENSORS = ("stanford-bert", "pylate-chain", "pylate-modernbert", "multivector-t5", "stanford-xlm-roberta")
CHAINS = ("pylate-chain", "multivector-chain", "pylate-biased")
TOKENIZERS = ("stanford-bert", "pylate-bert", "multivector-lowercase", "stanford-xlm-roberta")
WITHOUT_EFFECT = ("pooler", "key.bias", "k_lin.bias", "attn.k.bias")

Change = Callable[[Checkpoint], Checkpoint]
Mutant = tuple[str, str, Change | None, Callable[[ModelProto], None] | None]  # case, description, change, spoil


def is_refused(case: str, change: Change | None, spoil: Callable[[ModelProto], None] | None = None) -> bool:
    """True if the gate refuses an export whose checkpoint went through `change` or whose graph through `spoil`."""

    def read(*arguments: Any) -> Checkpoint:
        checkpoint = read_checkpoint(*arguments)
        return change(checkpoint) if change else checkpoint

    def write(model: Any, **options: Any) -> ModelProto:
        graph = to_onnx(model, **options)
        if spoil:
            spoil(graph)
        return graph

    with (
        tempfile.TemporaryDirectory() as scratch,
        mock.patch.object(colbert, "read_checkpoint", read),
        mock.patch.object(colbert, "to_onnx", write),
    ):
        try:
            colbert.export_checkpoint(GOLDEN / case / "checkpoint", Path(scratch) / "out")
        except RefColbertError:
            return not list(Path(scratch).iterdir())
        return False


def mutants() -> Iterator[Mutant]:
    """Every mutant: its case, a description and the change."""
    for case in SPECS:
        read = read_checkpoint(GOLDEN / case / "checkpoint")
        spec, tokenizer = read.spec, Tokenizer.from_str(read.tokenizer_json)
        framing = {*spec.query_prefix_ids, *spec.document_prefix_ids, *spec.query_suffix_ids, spec.expansion_id}
        spelled = {i for i in range(tokenizer.get_vocab_size()) if i in framing or _spells(tokenizer, i)}
        for name, wrong in _specs(spec, spelled, cased="cased" in _base(case) and "uncased" not in _base(case)):
            yield case, name, partial(replace, spec=wrong), None
    for case in TOKENIZERS:
        for name, edit in TOKENIZER_EDITS.items():
            text = read_checkpoint(GOLDEN / case / "checkpoint").tokenizer_json
            wrong_json = edit(json.loads(text))
            if wrong_json is not None:
                wrong_text = json.dumps(wrong_json, ensure_ascii=False)
                yield case, name, partial(replace, tokenizer_json=wrong_text), None
    for case in CHAINS:
        yield from _heads(case)
    for case in TENSORS:
        graph = to_onnx(read_checkpoint(GOLDEN / case / "checkpoint").model)
        for tensor in graph.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind == "f" and array.any() and not any(word in tensor.name for word in WITHOUT_EFFECT):
                yield case, f"graph without {tensor.name}", None, partial(_zero, name=tensor.name)
    for name, spoil in GRAPH_EDITS.items():
        yield "stanford-bert", name, None, spoil


def _spells(tokenizer: Tokenizer, token: int) -> bool:
    """True if some text has that token. BERT's tokenizer splits a written [unused0], so no text has it."""
    return token in tokenizer.encode(tokenizer.id_to_token(token), add_special_tokens=False).ids


def _base(case: str) -> str:
    return str(json.loads((GOLDEN / case / "expected.json").read_text())["base"])


def _specs(spec: EncodingSpec, spelled: set[int], cased: bool) -> Iterator[tuple[str, EncodingSpec]]:
    """The spec with one thing wrong."""
    edited: Callable[..., EncodingSpec] = replace  # the names of fields are made here
    for side in ("query", "document"):
        prefix, suffix = getattr(spec, f"{side}_prefix_ids"), getattr(spec, f"{side}_suffix_ids")
        key = "skiplist" if side == "document" else "query_skiplist"
        length, skiplist = getattr(spec, f"{side}_length"), getattr(spec, key)
        if length < 60:  # no text of the gate is longer than a limit that hardly limits
            fill = {"expansion_length": None} if spec.expansion_length == length and side == "query" else {}
            yield f"{side} one token longer", edited(spec, **{f"{side}_length": length + 1}, **fill)
            yield f"{side} one token shorter", edited(spec, **{f"{side}_length": length - 1}, **fill)
        if prefix:
            yield f"{side} without its last prefix id", edited(spec, **{f"{side}_prefix_ids": prefix[:-1]})
            yield f"{side} with another marker", edited(spec, **{f"{side}_prefix_ids": (*prefix[:-1], prefix[-1] + 1)})
        if len(prefix) > 1:
            yield f"{side} marker in front", edited(spec, **{f"{side}_prefix_ids": prefix[::-1]})
        yield f"{side} without suffix", edited(spec, **{f"{side}_suffix_ids": suffix[:-1]})
        yield f"{side} with a prompt", edited(spec, **{f"{side}_prompt": getattr(spec, f"{side}_prompt") + "a "})
        if getattr(spec, f"{side}_prompt"):
            yield f"{side} without prompt", edited(spec, **{f"{side}_prompt": ""})
        for token in [i for i in skiplist if i in spelled][:40]:
            yield f"{side} skiplist without {token}", edited(spec, **{key: tuple(i for i in skiplist if i != token)})
        kept = prefix[0] if prefix else suffix[0]
        if kept not in skiplist:
            yield f"{side} skiplist with {kept}", edited(spec, **{key: tuple(sorted({*skiplist, kept}))})
    if spec.expansion_id is None:
        yield "queries expanded", edited(spec, expansion_id=spec.pad_id)
    else:
        yield "queries not expanded", edited(spec, expansion_id=None, expansion_length=None, pad_expands=False)
        yield "another expansion id", edited(spec, expansion_id=spec.expansion_id + 1)
        yield "attention to expansion", edited(spec, expansion_attended=not spec.expansion_attended)
        if spec.pad_id != spec.expansion_id:
            yield "a literal padding token", edited(spec, pad_expands=not spec.pad_expands)
        if spec.expansion_length:
            yield "filled up to one less", edited(spec, expansion_length=spec.expansion_length - 1)
    if "roberta" in str(spec) or cased:
        yield "lower-casing", edited(spec, lowercase=not spec.lowercase)


def _without_normalizer(tokenizer: dict[str, Any]) -> dict[str, Any] | None:
    return {**tokenizer, "normalizer": None} if tokenizer["normalizer"] else None


def _without_added(tokenizer: dict[str, Any]) -> dict[str, Any] | None:
    """The last added token is ordinary text."""
    return {**tokenizer, "added_tokens": tokenizer["added_tokens"][:-1]} if tokenizer["added_tokens"] else None


def _other_casing(tokenizer: dict[str, Any]) -> dict[str, Any] | None:
    if (tokenizer["normalizer"] or {}).get("type") != "BertNormalizer":
        return None
    normalizer = tokenizer["normalizer"]
    return {**tokenizer, "normalizer": {**normalizer, "lowercase": not normalizer["lowercase"]}}


TOKENIZER_EDITS: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "no normalizer": _without_normalizer,
    "an added token lost": _without_added,
    "other casing": _other_casing,
}


def _heads(case: str) -> Iterator[Mutant]:
    count = len(read_checkpoint(GOLDEN / case / "checkpoint").model.head)
    for i in range(count):
        layer: Any = read_checkpoint(GOLDEN / case / "checkpoint").model.head[i]
        if layer.bias is not None:
            yield case, f"Dense {i} without bias", partial(_set, layer=i, bias=None), None
        if not isinstance(layer.activation, torch.nn.Identity):
            yield case, f"Dense {i} without activation", partial(_set, layer=i, activation=torch.nn.Identity()), None
        else:
            yield case, f"Dense {i} with Tanh", partial(_set, layer=i, activation=torch.nn.Tanh()), None
        if layer.residual is not None or layer.identity_residual:
            none: dict[str, Any] = {"residual": None, "identity_residual": False}
            yield case, f"Dense {i} without residual", partial(_set, layer=i, **none), None


def _set(checkpoint: Checkpoint, layer: int, **values: Any) -> Checkpoint:
    for name, value in values.items():
        setattr(checkpoint.model.head[layer], name, value)
    return checkpoint


def _zero(graph: ModelProto, name: str) -> None:
    tensor = next(t for t in graph.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 0, name))


def _skip(graph: ModelProto, kind: str, which: int) -> None:
    """Take out a node: what uses its output gets its first input."""
    node = [n for n in graph.graph.node if n.op_type == kind][which]
    for user in graph.graph.node:
        user.input[:] = [node.input[0] if name == node.output[0] else name for name in user.input]


def _unmasked(graph: ModelProto) -> None:
    """Attention sees everything: the mask is replaced by its comparison with itself."""
    for node in graph.graph.node:
        node.input[:] = ["input_ids" if name == "attention_mask" else name for name in node.input]


def _unnormalized(graph: ModelProto) -> None:
    last = next(n for n in graph.graph.node if n.output[0] == graph.graph.output[0].name)
    last.input[1] = last.input[0]


GRAPH_EDITS: dict[str, Callable[[ModelProto], None]] = {
    "no Softmax": lambda g: _skip(g, "Softmax", 0),
    "no Gelu": lambda g: _skip(g, "Gelu", 1),
    "no LayerNormalization": lambda g: _skip(g, "LayerNormalization", -1),
    "no residual of the embeddings": lambda g: _skip(g, "Add", 0),
    "attention ignored": _unmasked,
    "no final normalization": _unnormalized,
}


def main() -> None:
    """Run all, print the survivors."""
    parser = argparse.ArgumentParser(description="Break the export one thing at a time.")
    parser.add_argument("--only", default="", help="a word of the case or the description")
    arguments = parser.parse_args()
    logging.getLogger("refcolbert").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    refused = total = 0
    for case, name, change, spoil in mutants():
        if arguments.only in f"{case} {name}":
            total += 1
            if is_refused(case, change, spoil):
                refused += 1
            else:
                print(f"NOT REFUSED: {case}, {name}", flush=True)
    print(f"{refused} of {total} mutants refused")


if __name__ == "__main__":
    main()
