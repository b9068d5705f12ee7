"""Break the numerical rooms in one place at a time; their tests must fail.

    python -m tools.mutation_testing [MODULES ...] [--every N] [--list]

A mutant changes one node of the syntax tree: a comparison or arithmetic operator, a boolean, a number, a negation, an
`and` or `or`, or leaves out a statement. It is imported in place of the module by a process forked for it, which runs
the tests of the module until one fails. Prints the survivors, and of each module how many were killed. Annotations,
docstrings, messages of errors, `__all__` and SETTINGS are left alone; mutants known to compute the same are in
EQUIVALENT.
"""

import ast
import copy
import importlib
import importlib.abc
import importlib.util
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import click

ROOT = Path(__file__).parents[1]
TESTS = {
    "maxsim": ["tests/engine/test_maxsim.py"],
    "topk": ["tests/engine/test_topk.py"],
    "kmeans": ["tests/engine/test_kmeans.py", "tests/engine/test_codec.py"],
    "codec": ["tests/engine/test_codec.py"],
    "ivf": ["tests/engine/test_ivf.py"],
    "tokens": ["tests/encoding/test_tokens_switches.py", "tests/encoding/test_tokens.py"],
    "levels": ["tests/engine/test_search.py"],
    "search": ["tests/engine/test_search.py"],
}
SECONDS = 60  # of processor time, which a busy machine does not stretch: a mutant that takes more loops, and is killed
WAITING = 20  # times as many by the clock: a mutant that takes longer waits for itself
OPERATORS: dict[type, list[type]] = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.Mult],
    ast.LShift: [ast.RShift],
    ast.RShift: [ast.LShift],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
    ast.MatMult: [],  # would be a misfit of shapes
    ast.Pow: [ast.Mult],
}
# What is only a matter of time, memory or recall: any number will do, and measurements chose these.
SETTINGS = {
    "maxsim": {"PAIRS", "CHUNK"},
    "kmeans": {"CHUNK", "COARSE_POINTS", "PROBES", "ITERATIONS"},
    "codec": {"CHUNK", "CENTROIDS", "POINTS_PER_CENTROID", "SAMPLE", "RESIDUAL_SAMPLE"},
    "ivf": {"GROUPS", "ROOM"},
    "tokens": {"CHARACTERS_PER_TOKEN", "CUT_MARGIN"},
    "levels": {"NEAR", "GROUP"},
    "search": {"NPROBE", "CANDIDATES", "PRUNED", "SPARE", "CHUNK_TOKENS", "PRUNE_TOKENS", "REFINE_TOKENS"},
}
# mutant as it is printed, after "->" -> why it computes the same as what stands there
EQUIVALENT: dict[str, dict[str, str]] = {
    "maxsim": {
        "if k > len(rough):": "at equality all are at least the least",
        "width = 2 << (terms.shape[1] - 1).bit_length()": "folds zeros first",
        "width = 1 << (terms.shape[1] + 1).bit_length()": "folds zeros first",
        "terms = terms[:, :width] + terms[:, width:3 * width]": "a slice ends where the array does",
    },
    "search": {
        f"met = np.sort(found[top_k(scores, PRUNED * keep)]) if {condition} else found": "the best of few are all"
        for condition in ("True", "len(found) >= PRUNED * keep", "len(found) > PRUNED / keep")
    },
    "topk": {"if k <= len(scores):": "at equality the partition keeps all"},
    "kmeans": {
        "fine = [_lloyd(vectors[m], share, rng) for m, share in zip(members, shares, strict=False) if share]": (
            "both have one entry a cell"
        ),
        "bounds = np.searchsorted(chosen.ravel()[order], np.arange(len(centroids.coarse) + 2))": (
            "one bound more, which nothing reads"
        ),
        "close = np.count_nonzero(similarities > (last - slack)[:, None], axis=1) > probes": (
            "the slack has room to spare"
        ),
        "chosen = np.argpartition(-similarities, probes - 2, axis=1)[:, :probes]": (
            "who gets a farther cell has a nearer one left over, and is assigned alone"
        ),
        "better = value >= best[rows]": "who has two equals is assigned alone",
        "for i in np.flatnonzero(close | (second > best - slack)):": "the slack has room to spare",
    },
    "codec": {
        "if norms.max(initial=1) > LARGEST / 2:": "1 is below the limit",
        "return buckets.reshape(n, -2)": "NumPy takes any negative length for the one that is left",
        "units: Floats = np.divide(vectors, np.where(norms > 0, norms, 2)[:, None], dtype=np.float32)": (
            "only zeros are divided by it"
        ),
    },
    "ivf": {"if nprobe > n_centroids:": "at equality the best are all"},
    "tokens": {
        "encodings = self._encode(prepared, budget, max(budget, 2) * CHARACTERS_PER_TOKEN + CUT_MARGIN)": (
            "reads more of a text of which one token is kept"
        ),
        "for text, encoding in zip(texts, encodings, strict=False):": "both have one entry a text",
        "if len(text) >= window and _certain(encodings[position], window - CUT_MARGIN) < budget:": (
            "reads a whole text again"
        ),
        "encodings[position] = self._encode([text], budget, 5 * window)[0]": "reads more at a time",
        "most = {word: max(counts[i], counts[i - len(unique)]) for i, word in enumerate(unique)}": (
            "there are twice as many counts, so both count the same from either end"
        ),
        "places = list(range(lead, len(full) + 2))": "offsets lie within the text",
        "last = len(places) + 1": "offsets lie within the text",
        "last = len(places) - 2": "offsets lie within the text",
    },
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the line where it is, what it says, and the whole mutated source."""

    line: int
    text: str
    source: str


def mutants(module: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse((ROOT / "refcolbert" / f"{module}.py").read_text())
    _strip(tree, SETTINGS.get(module, set()))
    out, seen = [], {ast.unparse(tree)}
    for index, node in enumerate(ast.walk(tree)):
        for change in range(len(list(_changes(copy.deepcopy(node))))):
            mutated = copy.deepcopy(tree)
            target = next(n for i, n in enumerate(ast.walk(mutated)) if i == index)
            changes = _changes(target)
            for _ in range(change):
                next(changes)
            before = _line(node)
            next(changes)
            source = ast.unparse(mutated)
            text = _difference(ast.unparse(tree), source)
            if source not in seen and text.partition("  ->  ")[2] not in EQUIVALENT.get(module, {}):
                seen.add(source)
                out.append(Mutant(before, text, source))
    return sorted(out, key=lambda m: m.line)


def _strip(tree: ast.Module, settings: set[str]) -> None:
    """Mark what is not to be changed: annotations, aliases of types, messages, decorators, `__all__`, settings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg):
            _freeze(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            _freeze(node.returns)
            for decorator in node.decorator_list:
                _freeze(decorator)
        elif isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                _freeze(decorator)
        elif isinstance(node, ast.Raise):
            _freeze(node.exc)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"__all__", "Span", *settings}:
            _freeze(node)


def _freeze(node: ast.AST | None) -> None:
    for inner in ast.walk(node) if node else ():
        inner.frozen = True  # type: ignore[attr-defined]


def _changes(node: ast.AST) -> Iterator[None]:
    """Make the changes that a node takes, one after the other, each in place."""
    if getattr(node, "frozen", False):
        return
    if isinstance(node, ast.Compare):
        for other in OPERATORS[type(node.ops[0])]:
            node.ops[0] = other()
            yield
    elif isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        for other in OPERATORS[type(node.op)]:
            node.op = other()
            yield
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node.op = ast.UAdd()
        yield
    elif isinstance(node, ast.UnaryOp):  # not, ~: twice is nothing
        node.operand = ast.UnaryOp(node.op, node.operand)
        yield
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        node.value = (not node.value) if isinstance(node.value, bool) else node.value + 1
        yield
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        node.value = ast.Constant(None)
        yield
    elif isinstance(node, ast.IfExp):
        node.test = ast.Constant(True)
        yield
        node.test = ast.Constant(False)
        yield


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 1))


def _difference(before: str, after: str) -> str:
    for a, b in zip(before.splitlines(), after.splitlines(), strict=False):
        if a != b:
            return f"{a.strip()}  ->  {b.strip()}"
    return "the end"


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a given source."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Only that module."""
        if name != self.name:
            return None
        origin = str(ROOT / Path(*name.split(".")).with_suffix(".py"))
        return importlib.util.spec_from_loader(name, self, origin=origin)

    def exec_module(self, module: ModuleType) -> None:
        """Run the mutated source."""
        exec(compile(self.source, f"mutated {self.name}", "exec"), module.__dict__)  # noqa: S102 - the point of it


def survives(module: str, source: str) -> bool:
    """Whether all tests of the module pass on the mutated source."""
    child = os.fork()
    if child == 0:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        code: Any = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            import pytest

            sys.meta_path.insert(0, _Mutated(f"refcolbert.{module}", source))
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=no", *TESTS[module]])
        finally:
            os._exit(int(code != 0))
    until = time.monotonic() + WAITING * SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


@click.command()
@click.argument("modules", nargs=-1, type=click.Choice(list(TESTS)))
@click.option("--every", default=1, show_default=True, help="Try one mutant in so many.")
@click.option("--list", "listing", is_flag=True, help="Print the mutants and run none.")
def main(modules: tuple[str, ...], every: int, listing: bool) -> None:
    """Print how many mutants of each module its tests kill."""
    os.environ |= {"HYPOTHESIS_PROFILE": "mutation", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    for shared in ("numpy", "pytest", "hypothesis.extra.numpy"):  # once, not in every child
        importlib.import_module(shared)

    killed = total = 0
    for module in modules or TESTS:
        tried = mutants(module)[::every]
        if listing:
            click.echo("\n".join(f"{module}:{m.line}: {m.text}" for m in tried))
            continue
        if not survives(module, (ROOT / "refcolbert" / f"{module}.py").read_text()):
            raise click.ClickException(f"the tests of {module} fail without any mutation")
        alive = 0
        for m in tried:
            if survives(module, m.source):
                alive += 1
                click.echo(f"  survived {module}:{m.line}: {m.text}")
        killed, total = killed + len(tried) - alive, total + len(tried)
        click.echo(f"{module}: {len(tried) - alive} of {len(tried)} killed ({1 - alive / len(tried):.1%})")
    if total:
        click.echo(f"all: {killed} of {total} killed ({killed / total:.1%})")


if __name__ == "__main__":
    main()
