"""Check the committed goldens, make them again, write golden/encode.

    python -m tools.goldens check
    python -m tools.goldens regen --reason "..." [--suite SUITE]
    python -m tools.goldens manifest --reason "..."
    python -m tools.goldens encode NAME PYTHON --reason "..." [--only CASE]

`check` finds changed, orphaned and missing files and gaps in their provenance. `regen` makes the suites of
`tools.goldens.suites` again, prints and writes the changes, and fails if there are any, because a run that changed
goldens has tested nothing. `encode` does the same for golden/encode. `manifest` accepts the files that
`tools.goldens.index` and `tools.goldens.plaid` wrote. All but `check` need the export environment.

golden/encode has the outputs of the original ColBERT implementations for tiny seeded checkpoints. NAME is stanford,
pylate, multivector or bge_m3. PYTHON is the interpreter of an environment that has the original, which
`python -m tools.environments NAME` makes. The original makes and saves the checkpoint, loads it again and encodes the
texts. `tests/export/parity/test_golden.py` exports the same checkpoint and compares.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tools import ROOT

from .bases import write_base
from .provenance import commit, hashed, provenance

QUERIES = (
    "what color is amber urine",
    "",
    "  The Late Interaction?  ",
    "scores every query token, document code square of the amber urine and late interaction",
    "[MASK] [PAD] [UNK] <mask> <pad> [unused0] [Q] [q] x",
    "café é ß İ [D] amber",
    "?!",
    "before\x00after",
)
DOCUMENTS = (
    "What color is amber urine? The late interaction, scored!",
    "",
    "  Square.  ",
    "every query token scores every document token. " * 4,
    "[MASK] [PAD] [UNK] <mask> <pad> [unused1] [D] [d] x",
    "café é ß İ 汉语 👍🏽 [Q] amber",
    "... --- ''",
    "a\tb\r\nc\u2028d",
)
MARKED = {"prompts": {"query": "[unused0] ", "document": "[unused1] "}, "special": ["[unused0]", "[unused1]"]}
FIXED = {"strategy": "fixed", "length": 12}
PUNCTUATION = {"skiplist_words": list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")}
BIASED = {"in_features": 16, "out_features": 8, "bias": True, "activation_function": "Tanh"}
CHAIN = [
    {"in_features": 16, "out_features": 24, "bias": True, "activation_function": "GELU", "use_residual": True},
    {"in_features": 24, "out_features": 24, "bias": False, "activation_function": "SiLU", "use_residual": True},
    {"in_features": 24, "out_features": 8, "bias": False},
]

CASES: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "stanford": {
        "stanford-bert": ("bert-uncased", {}),
        "stanford-cased": ("bert-cased", {}),
        "stanford-attended": ("bert-uncased", {"metadata": {"attend_to_mask_tokens": True}}),
        "stanford-unpunctuated": ("bert-uncased-unpunctuated", {}),
        "stanford-pickled": ("bert-uncased", {"pickled": True, "nested": True}),
        "stanford-minimal": ("bert-uncased", {"minimal": True, "metadata": {"doc_maxlen": 60}}),
        "stanford-markers": ("bert-cased", {"metadata": {"query_token_id": "[unused1]", "doc_token_id": "[nowhere]"}}),
        "stanford-xlm-roberta": ("xlm-roberta", {}),
        "stanford-xlm-roberta-attended": ("xlm-roberta", {"metadata": {"attend_to_mask_tokens": True}}),
        "stanford-roberta": ("roberta", {}),
        "stanford-electra": ("electra", {}),
        "stanford-distilbert": ("distilbert", {}),
        "stanford-mpnet": ("mpnet", {}),
        "stanford-half-in-shards": ("bert-cased", {"alter": ["bfloat16", "sharded", "inert"]}),
        "stanford-bare": (
            "bert-uncased",
            {"minimal": True, "metadata": {"dim": None, "query_maxlen": None, "doc_maxlen": None}},
        ),
    },
    "pylate": {
        "pylate-bert": ("bert-uncased", {}),
        "pylate-defaults": ("bert-uncased", {"remove": ["skiplist_words", "do_query_expansion", "query_prefix"]}),
        "pylate-chain": ("bert-uncased", {"dense": CHAIN}),
        "pylate-biased": ("bert-cased", {"dense": [BIASED]}),
        "pylate-attended": ("bert-uncased", {"attend_to_expansion_tokens": True}),
        "pylate-unexpanded": ("bert-uncased", {"do_query_expansion": False, "attend_to_expansion_tokens": True}),
        "pylate-unused": ("bert-uncased", {"query_prefix": "[unused0]", "document_prefix": "[unused1]"}),
        "pylate-unmarked": ("bert-uncased", {"query_prefix": "", "document_prefix": ""}),
        "pylate-unpunctuated": ("bert-uncased-unpunctuated", {}),
        "pylate-skiplist": ("bert-uncased", {"skiplist_words": ["the", "amber", "[SEP]"]}),
        "pylate-frame-skipped": ("bert-uncased", {"skiplist_words": ["[CLS]", "[SEP]", "[D] ", "amber"]}),
        "pylate-no-skiplist": ("bert-uncased", {"skiplist_words": []}),
        "pylate-lowercase": ("bert-cased", {"lowercase": True}),
        "pylate-prompted": (
            "bert-cased",
            {"prompts": {"find": " Query: ", "query": "unused: "}, "default_prompt_name": "find"},
        ),
        "pylate-xlm-roberta": ("xlm-roberta", {}),
        "pylate-roberta": ("roberta", {"attend_to_expansion_tokens": True}),
        "pylate-modernbert": ("modernbert", {}),
        "pylate-distilbert": ("distilbert", {}),
        "pylate-electra": ("electra", {}),
        "pylate-mpnet": ("mpnet", {}),
    },
    "multivector": {
        "multivector-bert": (
            "bert-uncased",
            {**MARKED, "mask": PUNCTUATION, "transformer": {"query_expansion": FIXED}},
        ),
        "multivector-plain": ("bert-uncased", {}),
        "multivector-attended": (
            "bert-uncased",
            {**MARKED, "transformer": {"query_expansion": {**FIXED, "attend": True, "length": 9}, "query_length": 20}},
        ),
        "multivector-min": (
            "bert-uncased",
            {**MARKED, "transformer": {"query_expansion": {"strategy": "min", "length": 7}, "query_length": 10}},
        ),
        "multivector-token": (
            "bert-uncased",
            {"transformer": {"query_expansion": {**FIXED, "token": "[unused1]"}, "query_length": None}},
        ),
        "multivector-both-sides": (
            "bert-uncased",
            {
                "mask": {"skiplist_words": ["the", "[MASK]"], "skiplist_tasks": ["query", "document"]},
                "transformer": {"query_expansion": FIXED},
            },
        ),
        "multivector-unpunctuated": ("bert-uncased-unpunctuated", {"mask": PUNCTUATION}),
        "multivector-unlimited": ("bert-cased", {"transformer": {"query_length": None, "document_length": None}}),
        "multivector-only": ("bert-uncased", {"mask": {"keep_only_token_ids": [4, 5, 60, 61, 62, 110, 111]}}),
        "multivector-lowercase": ("bert-cased", {"transformer": {"do_lower_case": True}}),
        "multivector-lowercase-setting": ("bert-cased", {"settings": {"do_lower_case": True}}),
        "multivector-lowercase-roberta": ("roberta", {"transformer": {"do_lower_case": True}}),
        "multivector-prompted": (
            "bert-cased",
            {"prompts": {"query": "query: ", "passage": " the "}, "default_prompt_name": "query"},
        ),
        "multivector-chain": ("bert-uncased", {"dense": CHAIN}),
        "multivector-biased": ("bert-uncased", {"dense": [BIASED]}),
        "multivector-xlm-roberta": ("xlm-roberta", {"transformer": {"query_expansion": FIXED}, "mask": PUNCTUATION}),
        "multivector-roberta": ("roberta", {"transformer": {"query_expansion": FIXED}}),
        "multivector-modernbert": ("modernbert", {**MARKED, "transformer": {"query_expansion": FIXED}}),
        "multivector-distilbert": ("distilbert", {"transformer": {"query_expansion": FIXED}}),
        "multivector-electra": ("electra", {"transformer": {"query_expansion": FIXED}}),
        "multivector-mpnet": ("mpnet", {"transformer": {"query_expansion": FIXED}}),
        "multivector-pickled-half": ("electra", {"alter": ["float16", "pickled"], "mask": PUNCTUATION}),
        "multivector-t5": ("t5", {"mask": {"skiplist_words": ["!", "."]}}),
    },
    "bge_m3": {"bge-m3": ("xlm-roberta", {"alter": ["pickled"]})},
}


def run_original(name: str, python: Path, out: Path, only: str | None = None) -> None:
    """Let the original answer its cases."""
    texts = {"query": QUERIES, "document": DOCUMENTS}
    cases = [
        {"name": case, "base": base, "options": options, "texts": texts}
        for case, (base, options) in CASES[name].items()
        if only in (None, case)
    ]
    run_cases(name, python, cases, out)


def run_cases(name: str, python: Path, cases: list[dict[str, Any]], out: Path) -> None:
    """Make the bases here, then let the original answer. A case may hold `config`, changes to its base."""
    with tempfile.TemporaryDirectory() as scratch:
        given: list[dict[str, Any]] = []
        for case in cases:
            config = case.get("config", {})
            folder = Path(scratch) / "-".join(map(str, (len(given), *config.values()) if config else ("plain",)))
            folder /= case["base"]
            if not folder.is_dir():
                folder.mkdir(parents=True)
                write_base(case["base"], folder, config)
            given.append({**case, "base": str(folder)})
        path = Path(scratch) / "cases.json"
        path.write_text(json.dumps(given))
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": ""}
        subprocess.run([python, "-m", f"tools.goldens.origins.{name}", path, out], check=True, env=offline, cwd=ROOT)


def regen(suite: str | None, reason: str) -> list[str]:
    """Make the goldens of a suite, or of all, and return what changed."""
    from . import files
    from .suites import SUITES

    lines: list[str] = []
    for name in [suite] if suite else SUITES:
        make, cases = SUITES[name]
        for case in cases:
            arrays, tolerance, more = make(case)
            new = files.Golden(name, case, arrays, provenance(name, case, more, tolerance, reason))
            old = files.read(name, case) if new.paths[0].exists() else None
            changed = files.differences(old, new)
            if changed or old is None or old.about["tolerance"] != tolerance:
                files.write(new)
                lines += changed or [f"{name}/{case}: other tolerances"]
    if lines:
        files.write_manifest(reason)
    return lines


def encode(name: str, python: Path, reason: str, only: str | None = None) -> list[str]:
    """Let the original answer its cases again, keep what is new, and return what changed."""
    from . import files

    lines: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        run_original(name, python, Path(scratch), only)
        for new in sorted(Path(scratch).iterdir()):
            old = files.GOLDEN / "encode" / new.name
            before = files.read_tree(old) if old.is_dir() else None
            changed = files.differences(before, files.read_tree(new))
            if changed:
                shutil.rmtree(old, ignore_errors=True)
                shutil.copytree(new, old)
                lines += changed
        if lines:
            versions = json.loads((new / "expected.json").read_text())["versions"]
            files.write_about(f"encode/{name}.json", provenance("encode", name, origin(name, versions), EXACT, reason))
            files.write_manifest(reason)
    return lines


# the ids, attention and kept rows of a text; its vectors in any runtime of float32
EXACT = {"ids": 0.0, "attention": 0.0, "kept": 0.0, "vectors": 1e-4}
SEEDS = {
    "stanford": 3,
    "pylate": 5,
    "multivector": 9,
    "bge_m3": 13,
}  # of the projections, in tools.goldens.origins; SEED is the backbones'


def origin(name: str, versions: dict[str, str]) -> dict[str, Any]:
    """Provenance of an original's goldens."""
    own = f"tools/goldens/origins/{name}.py"
    return {
        "generated_by": f"{own} at {commit()}",
        "command": f"python -m tools.goldens encode {name} PYTHON",
        "seed": SEEDS[name],
        "source": {**hashed(own, *MADE), "checkpoints": "MANIFEST.json"},
        "versions": versions,
    }


MADE = ("tools/goldens/__main__.py", "tools/goldens/bases.py", "tools/goldens/origins/common.py")


def check() -> list[str]:
    """Faults of the committed goldens."""
    from . import cases, files

    return files.faults(cases.CASES) + files.tree_faults({name for named in CASES.values() for name in named})


def main() -> None:
    """Check, make again, or run one original."""
    from . import cases

    parser = argparse.ArgumentParser(description="Goldens: check them, make them again.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check", help="changed, orphaned and missing files, gaps in provenance")
    again = verbs.add_parser("regen", help="make them again, print what changes")
    again.add_argument("--suite", choices=sorted(cases.CASES), help="one suite")
    taken = verbs.add_parser("manifest", help="take the files as they are")
    original = verbs.add_parser("encode", help="write golden/encode from an original implementation")
    original.add_argument("name", choices=sorted(CASES))
    original.add_argument("python", type=Path, help="the interpreter of an environment that has the original")
    original.add_argument("--only", help="one case")
    for verb in (again, taken, original):
        verb.add_argument("--reason", required=True, help="why; kept beside what is written")
    arguments = parser.parse_args()
    if arguments.verb != "check" and not arguments.reason.strip():
        parser.error("a reason is needed")
    if arguments.verb == "manifest":
        from . import files

        files.write_manifest(arguments.reason)
    if arguments.verb == "encode":
        lines = encode(arguments.name, arguments.python.absolute(), arguments.reason, arguments.only)
    else:
        lines = regen(arguments.suite, arguments.reason) if arguments.verb == "regen" else check()
    print("\n".join(lines) or "goldens are as they were made")
    raise SystemExit(1 if lines else 0)


if __name__ == "__main__":
    main()
