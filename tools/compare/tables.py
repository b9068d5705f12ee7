"""The tables of the page, in Markdown, from the cells; and the page with its markers.

<!-- compare:NAME -->
... replaced ...
<!-- /compare:NAME -->
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from refcolbert.errors import InvalidInput
from tools.compare.results import METRICS, Difference, Line, Results, difference, line
from tools.compare.systems import SYSTEMS

__all__ = ["by_collection", "deep_table", "fill", "lines_of", "main_table", "markdown", "verdict"]

COLBERT, CROSS = "colbert-4-bits", "cross-encoder-reranks-bm25-100"
DEEPER = "cross-encoder-reranks-bm25-1000"
NAMES = ("MRR@10", "nDCG@10", "R@50", "R@1000")  # of METRICS, in tables
NEAR, FASTER = 0.02, 20  # the claim: at most this far below the cross-encoder's nDCG@10, this many times as fast
SIGNIFICANT = 0.05


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text."""
    lines = [f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def amount(value: float) -> str:
    """With a unit prefix, three digits."""
    for power, unit in ((12, " T"), (9, " G"), (6, " M"), (3, " k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g}{unit}"
    return f"{value:.0f}" if value else "–"


def lines_of(results: Results, sampled: Mapping[str, Sequence[str]]) -> list[Line]:
    """One line per system, over the sampled queries of each collection that the system was asked."""
    lines = []
    for system, cells in results.items():
        names = [[n for n in sampled[c] if n in set(cell["queries"])] for c, cell in cells.items()]
        lines.append(line(system, list(cells.values()), names))
    return lines


def main_table(results: Results, sampled: Mapping[str, Sequence[str]]) -> str:
    """Every system, means over the collections."""
    head = ["system", *NAMES, "p50 ms", "p95 ms", "encode", "search p50 / p95"]
    head += ["p50 for 1,000", "FLOPs", "bytes / doc", "before the query"]
    before = {system.name: system.before for system in SYSTEMS}
    lines = lines_of(results, sampled)
    most = max(system.queries for system in lines)
    rows = []
    for system in lines:
        mark = "" if system.queries == most else f" ({system.queries} queries)"
        rows.append([f"{system.system}{mark}", *_figures(system), before[system.system]])
    return markdown(head, rows)


def _figures(system: Line) -> list[str]:
    return [
        *(f"{value:.3f}" for value in system.metrics.values()),
        *(f"{value:.1f}" for value in (system.p50, system.p95, system.encode)),
        f"{system.search50:.1f} / {system.search95:.1f}",
        f"{system.deep50:.1f}",
        amount(system.flops),
        amount(system.bytes),
    ]


def deep_table(results: Results) -> str:
    """The metrics of every system on the queries that the deeper reranker was asked."""
    if DEEPER not in results:
        return f"{DEEPER} was not run."
    asked = {collection: cell["queries"] for collection, cell in results[DEEPER].items()}
    here = {name: {c: cells[c] for c in asked if c in cells} for name, cells in results.items()}
    rows = [[x.system, *(f"{x.metrics[metric]:.3f}" for metric in METRICS)] for x in lines_of(here, asked)]
    count = sum(map(len, asked.values()))
    return markdown([f"{count} queries", *NAMES], rows)


def by_collection(results: Results, sampled: Mapping[str, Sequence[str]], metric: str) -> str:
    """One metric, one column per collection. DEEPER is left out, because it is asked fewer queries."""
    names = list(sampled)
    rows = []
    for system, cells in results.items():
        if system == DEEPER:
            continue
        values = []
        for name in names:
            asked = [n for n in sampled[name] if name in cells and n in set(cells[name]["queries"])]
            values.append(float(np.mean([cells[name]["metrics"][metric][n] for n in asked])) if asked else np.nan)
        rows.append([system, *("–" if np.isnan(v) else f"{v:.3f}" for v in values), f"{np.nanmean(values):.3f}"])
    return markdown([metric, *names, "mean"], rows)


def verdict(results: Results, sampled: Mapping[str, Sequence[str]]) -> str:
    """Claims about late interaction, each with "holds" or "does not hold" and its figures."""
    claims = [_above(results, other) for other in ("bm25", "bi-encoder-flat")]
    by = {system.system: system for system in lines_of(results, sampled) if system.system != DEEPER}
    first = max(by.values(), key=lambda system: system.metrics["nDCG@10"])
    claims.append(
        f"- {first.system} ranks best of all that were asked the same queries: {first.metrics['nDCG@10']:.3f}."
    )
    if CROSS not in results:
        return "\n".join([*claims, "- not measured: how near the cross-encoder is; none was given."])
    cross, late = by[CROSS], by[COLBERT]
    gap = difference(results[COLBERT], results[CROSS], "nDCG@10")
    claims.append(_claim(gap.mean >= -NEAR, f"{COLBERT} is within {NEAR} nDCG@10 of {CROSS}", _size(gap)))
    times = cross.p50 / late.p50
    claims.append(
        _claim(
            times >= FASTER,
            f"{COLBERT} takes at most 1/{FASTER} of the median time of {CROSS}",
            f"1/{times:.1f}, and 1/{cross.flops / late.flops:.1f} of its FLOPs",
        )
    )
    ndcg = {name: by[name].metrics["nDCG@10"] for name in (CROSS, COLBERT, "bm25", "bi-encoder-flat")}
    best = max(("bm25", "bi-encoder-flat"), key=lambda name: ndcg[name])
    claims.append(
        _claim(
            ndcg[CROSS] > ndcg[best],
            f"{CROSS} is a ceiling here: above BM25 and the bi-encoder in the same run",
            ", ".join(f"{name} {value:.3f}" for name, value in ndcg.items()),
        )
    )
    if ndcg[COLBERT] > ndcg[CROSS]:
        claims.append(f"- {COLBERT} ranks better than {CROSS}, so what this run shows of a ceiling is too low.")
    return "\n".join(claims)


def _above(results: Results, other: str) -> str:
    gap = difference(results[COLBERT], results[other], "nDCG@10")
    return _claim(gap.mean > 0, f"{COLBERT} is above {other} in nDCG@10, mean over collections", _size(gap))


def _size(gap: Difference) -> str:
    chance = "" if gap.p < SIGNIFICANT else ", which may be chance"
    return f"{gap.mean:+.3f}, {gap.queries:,} queries that both were asked, p = {gap.p:.2g}{chance}"


def _claim(holds: bool, claim: str, figures: str) -> str:
    return f"- {'holds' if holds else '**does not hold**'}: {claim} ({figures})."


def fill(text: str, sections: Mapping[str, str]) -> str:
    """The page with every section between its markers. Raises `InvalidInput` for a section without a place."""
    for name, content in sections.items():
        begin, end = f"<!-- compare:{name} -->", f"<!-- /compare:{name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise InvalidInput(f"expected the markers {begin} and {end} once in the page, found {text.count(begin)}")
        text = pattern.sub(lambda _, filled=f"{begin}\n{content}\n{end}": filled, text)  # type: ignore[misc]
    return text
