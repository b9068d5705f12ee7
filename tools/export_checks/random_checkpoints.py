"""Checkpoints nobody has seen: random switches, made and run by an original, exported here, compared.

    python -m tools.export_checks.random_checkpoints NAME PYTHON [--cases 20] [--seed 0] [--keep DIR]

NAME and PYTHON are those of `tools.goldens`. Each case draws a backbone and its configuration, dims, a chain of Dense
layers, every switch of the layout, and what may happen to a folder on its way: weights cast to half precision, cut into
shards, files lost. An original that refuses its own checkpoint is counted, not compared. Prints one line a case.
"""

import argparse
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator

from refcolbert.encoding.encoder import Encoder
from refcolbert.errors import RefColbertError
from refcolbert_export.conversion.colbert import export_checkpoint

from ..goldens.__main__ import DOCUMENTS, PUNCTUATION, QUERIES, run_cases

__all__ = ["differences"]

TOLERANCE = 1e-5
RANDOM_TEXTS = 8  # per side, besides those of the goldens
WORDPIECE = ("bert-uncased", "bert-cased", "bert-uncased-unpunctuated")
BERT_LIKE = (*WORDPIECE, "electra", "roberta", "xlm-roberta", "mpnet")
PIECES = (
    *("the", "amber", "Interaction", "URINE", "ß", "İ", "é", "汉", "👍🏽", "##s"),
    *("[MASK]", "<mask>", "[PAD]", "<pad>", "</s>", "[SEP]", "[Q]", "[D]", "[unused0]", "[unused1]", "[UNK]", "<unk>"),
    *(".", ",", "!", "'", "-", "_", "▁", " ", "\t", "\n", "query: ", "\x00", "\u200b", "\u00a0", "12", "x" * 30),
)
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")


def _one(rng: Generator, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _text(rng: Generator) -> str:
    return str(_one(rng, "", " ")).join(_one(rng, *PIECES) for _ in range(int(rng.integers(0, 30))))


def _alterations(rng: Generator) -> list[str]:
    """Random changes of the saved folder, made before the original loads it again."""
    return [
        name
        for name, share in (("sharded", 0.25), ("float16", 0.15), ("bfloat16", 0.1), ("pickled", 0.15), ("inert", 0.3))
        if rng.random() < share
    ]


def _base(rng: Generator, *more: str) -> tuple[str, dict[str, Any]]:
    """A backbone, and changes to its configuration where it takes them."""
    kind = _one(rng, *BERT_LIKE, *more)
    changes: dict[str, Any] = {}
    if kind in BERT_LIKE and rng.random() < 0.6:
        changes = {
            "hidden_act": _one(rng, "gelu", "relu", "gelu_new", "silu"),
            "layer_norm_eps": _one(rng, 1e-12, 1e-3),
        }
        changes["num_hidden_layers"] = _one(rng, 1, 3)
    if kind == "t5":
        changes = {"feed_forward_proj": _one(rng, "relu", "gated-gelu"), "relative_attention_max_distance": 20}
    if kind == "modernbert":
        changes = {"local_attention": _one(rng, 4, 8, 20), "global_attn_every_n_layers": _one(rng, 1, 2, 3)}
        changes["num_hidden_layers"] = 4
    return kind, changes


def _chain(rng: Generator) -> list[dict[str, Any]]:
    """One to three Dense layers from 16 columns."""
    width, out = 16, []
    for _ in range(int(rng.integers(1, 4))):
        layer = {"in_features": width, "out_features": _one(rng, width, 8, 20, 5), "bias": bool(rng.random() < 0.5)}
        if rng.random() < 0.5:
            layer["activation_function"] = _one(rng, *ACTIVATIONS)
        if rng.random() < 0.4:
            layer["use_residual"] = True
        out.append(layer)
        width = layer["out_features"]
    return out


def _stanford(rng: Generator) -> tuple[tuple[str, dict[str, Any]], dict[str, Any]]:
    metadata = {
        "dim": _one(rng, 4, 8, 16, 24),
        "query_maxlen": _one(rng, 6, 12, 20, 32, 60),
        "doc_maxlen": _one(rng, 8, 24, 40, 60),
        "attend_to_mask_tokens": bool(rng.random() < 0.4),
        "query_token_id": _one(rng, "[unused0]", "[unused1]", "[nowhere]", "the"),
        "doc_token_id": _one(rng, "[unused1]", "[unused0]", "amber", "[MASK]"),
    }
    if rng.random() < 0.3:
        metadata = {**metadata, **dict.fromkeys(rng.choice(list(metadata)[1:], 2).tolist())}
    flags = {key: True for key in ("minimal", "nested") if rng.random() < 0.3}
    return _base(rng, "distilbert"), {"metadata": metadata, **flags}


def _pylate(rng: Generator) -> tuple[tuple[str, dict[str, Any]], dict[str, Any]]:
    options: dict[str, Any] = {
        "dense": _chain(rng),
        "query_length": _one(rng, 6, 12, 32, 60),
        "document_length": _one(rng, 8, 24, 60),
        "do_query_expansion": bool(rng.random() < 0.6),
        "attend_to_expansion_tokens": bool(rng.random() < 0.5),
        "lowercase": bool(rng.random() < 0.3),
    }
    if rng.random() < 0.6:
        markers = ("[Q]", "[Q] ", "[unused0]", "query: ", "the", "", "[MASK]", " q ")
        options |= {f"{side}_prefix": _one(rng, *markers) for side in ("query", "document")}
    if rng.random() < 0.6:
        options["skiplist_words"] = _one(
            rng, [], ["the", "amber", "nowhere"], ["[SEP]", "[CLS]", "</s>"], [".", "▁.", "Ġthe"]
        )
    if rng.random() < 0.3:
        prompts = {"query": "find: ", "document": " doc ", "search": "  Amber "}
        options |= {"prompts": prompts, "default_prompt_name": _one(rng, None, "query", "search")}
    if rng.random() < 0.3:
        lost = ("query_prefix", "document_prefix", "attend_to_expansion_tokens", "do_query_expansion", "skiplist_words")
        options["remove"] = rng.choice(lost, 2, replace=False).tolist()
    return _base(rng, "distilbert", "modernbert", "modernbert"), options


def _multivector(rng: Generator) -> tuple[tuple[str, dict[str, Any]], dict[str, Any]]:
    transformer: dict[str, Any] = {
        "query_length": _one(rng, None, 8, 12, 20),
        "document_length": _one(rng, None, 12, 40),
    }
    base, changes = _base(rng, "distilbert", "modernbert", "t5")
    if rng.random() < 0.6:
        expansion = {
            "strategy": _one(rng, "fixed", "min"),
            "length": _one(rng, 5, 8, 16),
            "attend": bool(rng.random() < 0.5),
        }
        transformer["query_expansion"] = expansion | (
            {"token": "the"} if rng.random() < 0.2 and "bert-" in base else {}
        )
    transformer |= {"do_lower_case": True} if rng.random() < 0.3 else {}
    options: dict[str, Any] = {"dense": _chain(rng), "transformer": transformer}
    if rng.random() < 0.6:
        words = _one(rng, PUNCTUATION["skiplist_words"], ["the", "amber", "nowhere", "[SEP]"], ["[UNK]", "<unk>", "!"])
        options["mask"] = {
            "skiplist_words": words,
            "skiplist_tasks": _one(rng, ["document"], ["query"], ["query", "document"]),
        }
    if rng.random() < 0.5:
        prompts = _one(
            rng,
            {"query": "[Q] ", "document": "[D] "},
            {"query": " amber:"},
            {"passage": "the "},
            {"corpus": "x", "s": "y "},
        )
        options |= {"prompts": prompts, "default_prompt_name": _one(rng, None, next(iter(prompts)))}
        options |= {"special": ["[Q]", "[D]"]} if rng.random() < 0.5 else {}
    return (base, changes), options


DRAWS: dict[str, Callable[[Generator], tuple[tuple[str, dict[str, Any]], dict[str, Any]]]] = {
    "stanford": _stanford,
    "pylate": _pylate,
    "multivector": _multivector,
}


def draw(name: str, case: int, seed: int) -> dict[str, Any]:
    """One random case."""
    rng = np.random.default_rng([seed, case])
    (base, changes), options = DRAWS[name](rng)
    texts = {
        "query": [*QUERIES, *(_text(rng) for _ in range(RANDOM_TEXTS))],
        "document": [*DOCUMENTS, *(_text(rng) for _ in range(RANDOM_TEXTS))],
    }
    options["alter"] = _alterations(rng)
    return {
        "name": f"{name}-random-{seed}-{case}",
        "base": base,
        "config": changes,
        "options": options,
        "texts": texts,
        "may_fail": True,
    }


def differences(case: Path, out: Path) -> list[str]:
    """Differences between the original and our export of a golden case, which is written to `out`."""
    export_checkpoint(case / "checkpoint", out)
    encoder = Encoder.load(out)
    expected = json.loads((case / "expected.json").read_text())
    sides: dict[str, tuple[Any, Any]] = {
        "query": (encoder.tokenizer.queries, encoder.encode_queries),
        "document": (encoder.tokenizer.documents, encoder.encode_documents),
    }
    found = []
    with np.load(case / "expected.npz") as vectors:
        for side, (tokenize, encode) in sides.items():
            for i, (text, tokens) in enumerate(zip(expected["texts"][side], expected["tokens"][side], strict=True)):
                (ours,) = tokenize([text])
                pairs = {
                    "ids": (ours.ids.tolist(), tokens["ids"]),
                    "attention": (ours.attention.astype(int).tolist(), tokens["attention"]),
                    "kept": (np.flatnonzero(ours.keep).tolist(), tokens["kept"]),
                }
                wrong = [f"{side} {text!r}: {what} {a}, not {b}" for what, (a, b) in pairs.items() if a != b]
                if not wrong and tokens["kept"]:
                    far = float(np.abs(next(iter(encode([text]))) - vectors[f"{side}_{i}"]).max())
                    wrong = [f"{side} {text!r}: vectors differ by {far:.1e}"] if not far <= TOLERANCE else []
                found += wrong
    return found


def _judge(folder: Path, scratch: Path) -> str:
    expected = json.loads((folder / "expected.json").read_text())
    if "refused" in expected:
        return f"the original refuses: {expected['refused']}"
    try:
        wrong = differences(folder, scratch / folder.name)
    except RefColbertError as error:
        return f"OUR EXPORT REFUSES: {error}"
    return f"DIFFERS in {len(wrong)}: {'; '.join(wrong[:2])}" if wrong else "equal"


def main() -> None:
    """Draw, run, compare."""
    parser = argparse.ArgumentParser(description="Compare random checkpoints of an original with our export.")
    parser.add_argument("name", choices=sorted(DRAWS))
    parser.add_argument("python", type=Path, help="the interpreter of an environment that has the original")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="leave checkpoints and answers in this folder")
    arguments = parser.parse_args()
    logging.getLogger("refcolbert").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.keep or Path(scratch) / "cases"
        cases = [draw(arguments.name, i, arguments.seed) for i in range(arguments.cases)]
        run_cases(arguments.name, arguments.python.absolute(), cases, out.absolute())
        for case in cases:
            verdict = _judge(out / case["name"], Path(scratch))
            print(f"{case['name']} {case['base']} {case['options']['alter']}: {verdict}", flush=True)
            shutil.rmtree(Path(scratch) / case["name"], ignore_errors=True)


if __name__ == "__main__":
    main()
