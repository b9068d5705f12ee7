"""The tables of the page, in Markdown, from what the cells hold."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tools.compare.published import PUBLISHED, SOURCES
from tools.compare.results import METRICS, Difference, Line, Results, difference, line
from tools.compare.systems import SYSTEMS

__all__ = [
    "by_collection",
    "deep_table",
    "lines_of",
    "long_tables",
    "main_table",
    "markdown",
    "published_table",
    "robustness_tables",
    "row_tables",
    "verdict",
]

COLBERT, CROSS = "colbert-4-bits", "cross-encoder-reranks-bm25-100"
DEEPER = "cross-encoder-reranks-bm25-1000"
SHALLOW = 100  # documents that CROSS reranks
NAMES = ("MRR@10", "nDCG@10", "R@50", "R@1000")  # of METRICS, in tables
NEAR, FASTER = 0.02, 20  # what is claimed of late interaction beside the cross-encoder
SIGNIFICANT = 0.05
SOME_ROWS = (4, 32)  # [MASK] rows that are held against none
AROUND, DILUTED = 100, 0.02  # irrelevant words, and what they may cost a system that is not diluted
Found = Mapping[str, Mapping[str, Any]]  # collection -> what an experiment found


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


def percent(share: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.0f} %"


def lines_of(results: Results, sampled: Mapping[str, Sequence[str]]) -> list[Line]:
    """A line a system, on the sampled queries of all collections, or on those of them that the system was asked."""
    found = []
    for system, cells in results.items():
        names = [[n for n in sampled[c] if n in set(cell["queries"])] for c, cell in cells.items()]
        found.append(line(system, list(cells.values()), names))
    return found


def main_table(results: Results, sampled: Mapping[str, Sequence[str]]) -> str:
    """Every system, means over the collections."""
    head = ["system", *NAMES, "p50 ms", "p95 ms", "encode", "search p50 / p95"]
    head += ["p50 for 1,000", "FLOPs", "bytes / doc", "before the query"]
    before = {system.name: system.before for system in SYSTEMS}
    lines = lines_of(results, sampled)
    most = max(found.queries for found in lines)
    rows = []
    for found in lines:
        mark = "" if found.queries == most else f" ({found.queries} queries)"
        rows.append([f"{found.system}{mark}", *_figures(found), before[found.system]])
    if CROSS in results and DEEPER not in results:
        rows.append(_extrapolated(results[CROSS], sampled, before[DEEPER]))
    return markdown(head, rows)


def _figures(found: Line) -> list[str]:
    return [
        *(f"{value:.3f}" for value in found.metrics.values()),
        *(f"{value:.1f}" for value in (found.p50, found.p95, found.encode)),
        f"{found.search50:.1f} / {found.search95:.1f}",
        f"{found.deep50:.1f}",
        amount(found.flops),
        amount(found.bytes),
    ]


def _extrapolated(cells: Mapping[str, Any], sampled: Mapping[str, Sequence[str]], before: str) -> list[str]:
    """Times and FLOPs by the number of pairs that there would be; nothing about quality."""
    names = [[n for n in sampled[c] if n in set(cell["queries"])] for c, cell in cells.items()]
    found = line(DEEPER, [_deepened(cell) for cell in cells.values()], names)
    return [f"{DEEPER} (extrapolated)", *["–"] * len(METRICS), *_figures(found)[len(METRICS) :], before]


def _deepened(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The cell of reranking SHALLOW documents as if all that BM25 found had been."""
    times = np.maximum(np.array(cell["documents"]) / SHALLOW, 1)  # [n_queries]
    return {**cell, **{key: (times * cell[key]).tolist() for key in ("search", "deep", "flops")}}


def deep_table(results: Results) -> str:
    """What the deeper reranker was asked, by every system: MRR@10 and nDCG@10 on the same queries."""
    if DEEPER not in results:
        return f"{DEEPER} was not run."
    asked = {collection: cell["queries"] for collection, cell in results[DEEPER].items()}
    here = {name: {c: cells[c] for c in asked if c in cells} for name, cells in results.items()}
    rows = [[x.system, *(f"{x.metrics[metric]:.3f}" for metric in METRICS)] for x in lines_of(here, asked)]
    count = sum(map(len, asked.values()))
    return markdown([f"{count} queries", *NAMES], rows)


def by_collection(results: Results, sampled: Mapping[str, Sequence[str]], metric: str) -> str:
    """One metric, a column a collection; without DEEPER, which is asked fewer queries."""
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
    """What is claimed of late interaction, and whether it holds here."""
    said = [_above(results, other) for other in ("bm25", "bi-encoder-flat")]
    by = {found.system: found for found in lines_of(results, sampled) if found.system != DEEPER}
    first = max(by.values(), key=lambda found: found.metrics["nDCG@10"])
    said.append(f"- {first.system} ranks best of all that were asked the same queries: {first.metrics['nDCG@10']:.3f}.")
    if CROSS not in results:
        return "\n".join([*said, "- not measured: how near the cross-encoder is; none was given."])
    cross, late = by[CROSS], by[COLBERT]
    found = difference(results[COLBERT], results[CROSS], "nDCG@10")
    said.append(_claim(found.mean >= -NEAR, f"{COLBERT} is within {NEAR} nDCG@10 of {CROSS}", _size(found)))
    times = cross.p50 / late.p50
    said.append(
        _claim(
            times >= FASTER,
            f"{COLBERT} takes at most 1/{FASTER} of the median time of {CROSS}",
            f"1/{times:.1f}, and 1/{cross.flops / late.flops:.1f} of its FLOPs",
        )
    )
    ndcg = {name: by[name].metrics["nDCG@10"] for name in (CROSS, COLBERT, "bm25", "bi-encoder-flat")}
    best = max(("bm25", "bi-encoder-flat"), key=lambda name: ndcg[name])
    said.append(
        _claim(
            ndcg[CROSS] > ndcg[best],
            f"{CROSS} is a ceiling here: above BM25 and the bi-encoder in the same run",
            ", ".join(f"{name} {value:.3f}" for name, value in ndcg.items()),
        )
    )
    if ndcg[COLBERT] > ndcg[CROSS]:
        said.append(f"- {COLBERT} ranks better than {CROSS}, so what this run shows of a ceiling is too low.")
    return "\n".join(said)


def _above(results: Results, other: str) -> str:
    found = difference(results[COLBERT], results[other], "nDCG@10")
    return _claim(found.mean > 0, f"{COLBERT} is above {other} in nDCG@10, mean over collections", _size(found))


def _size(found: Difference) -> str:
    chance = "" if found.p < SIGNIFICANT else ", which may be chance"
    return f"{found.mean:+.3f}, {found.queries:,} queries that both were asked, p = {found.p:.2g}{chance}"


def _claim(holds: bool, what: str, found: str) -> str:
    return f"- {'holds' if holds else '**does not hold**'}: {what} ({found})."


def published_table() -> str:
    """Published figures and where they stand."""
    rows = [
        [
            f"{p.system} [{p.source}]",
            f"{p.mrr:.3f}",
            *("–" if value is None else f"{value:.3f}" for value in (p.recall50, p.recall1000)),
            "–" if p.milliseconds is None else f"{p.milliseconds:,.0f}",
            p.flops or "–",
        ]
        for p in PUBLISHED
    ]
    table = markdown(["published, not measured here", "MRR@10", "R@50", "R@1000", "ms", "FLOPs"], rows)
    return table + "\n\n" + "\n".join(f"- [{key}] {source}" for key, source in SOURCES.items())


def row_tables(found: Found) -> str:
    """Query augmentation: quality by number of rows, matches by kind, cosines by position."""
    found = {name: cell for name, cell in found.items() if cell}
    if not found:
        return "The model has no expansion token."
    rows = next(iter(found.values()))["rows"]
    quality = [
        [f"{n}", *(f"{_mean(found, way, i):.4f}" for way in ("unattended", "attended"))] for i, n in enumerate(rows)
    ]
    alone = np.mean([cell["masks alone"]["nDCG@10"] for cell in found.values()])
    quality.append([f"{min(32, max(rows))}, without the words' rows", f"{alone:.4f}", "–"])
    claims = [
        _expanded(found, rows.index(n), n, way) for n in (4, 32) if n in rows for way in ("unattended", "attended")
    ]
    kinds = next(iter(found.values()))["matches"]["kinds"]
    shares = np.mean([cell["matches"]["shares"] for cell in found.values()], axis=0)  # [n_rows, n_kinds]
    cosine = np.mean([cell["matches"]["cosine"] for cell in found.values()], axis=0)  # [n_rows]
    names = list(next(iter(found.values()))["positions"]["masks"])
    masks = {name: np.mean([cell["positions"]["masks"][name] for cell in found.values()], axis=0) for name in names}
    shown = [i for i in (0, 1, 2, 4, 8, 16, 24, 31, 47) if i < len(shares)]
    matches = [
        [
            f"{i + 1}",
            *map(percent, shares[i]),
            f"{cosine[i]:.3f}",
            *(f"{masks[n][i]:.3f}" for n in names),
        ]
        for i in shown
    ]
    head = ["number of the [MASK] row", *(f"it matches {kind}" for kind in kinds), "cosine of the match"]
    return "\n\n".join(
        [
            markdown(["[MASK] rows", "nDCG@10, not attended", "attended"], quality),
            "\n".join(claims),
            markdown([*head, *(f"cosine with {name}" for name in names)], matches),
        ]
    )


def _expanded(found: Found, i: int, n: int, way: str) -> str:
    """What `n` rows, at place `i` of those that were tried, are worth beside none."""
    more = _mean(found, way, i) - _mean(found, way, 0)
    return _claim(round(more, 4) > 0, f"{n} [MASK] rows, {way}, rank better than none", f"{more:+.4f} nDCG@10")


def _mean(found: Found, way: str, i: int) -> float:
    return float(np.mean([cell[way][i]["nDCG@10"] for cell in found.values()]))


def robustness_tables(ways: Found, diluted: Found, faceted: Found) -> str:
    """Ways of scoring, kinds of matches, dilution, facets."""
    names = list(ways)
    scored = list(next(iter(ways.values()))["quality"])
    quality = [
        [way, *(f"{ways[n]['quality'][way]['nDCG@10']:.3f}" for n in names), f"{_of_way(ways, way):.3f}"]
        for way in scored
    ]
    exact = [
        [n, percent(e["share"]), f"{e['cosine exact']:.3f}", f"{e['cosine semantic']:.3f}"]
        for n, e in ((n, ways[n]["exact"]) for n in names)
    ]
    parts = [
        markdown(["nDCG@10", *names, "mean"], quality),
        markdown(["words of queries in relevant documents", "match the same token", "cosine", "others' cosine"], exact),
    ]
    diluted = {name: cell for name, cell in diluted.items() if cell}
    if diluted:
        places = list(next(iter(diluted.values()))["ranks"])
        systems = list(next(iter(diluted.values()))["ranks"][places[0]])
        rows = [[p, *(f"{np.mean([c['ranks'][p][s] for c in diluted.values()]):.3f}" for s in systems)] for p in places]
        parts.append(markdown(["irrelevant words", *(f"MRR {s}" if s != "cut" else "cut" for s in systems)], rows))
        parts.append(_dilution_claims(diluted, systems))
    faceted = {name: cell for name, cell in faceted.items() if cell}
    rows = [
        [n, str(c["pairs"]), *map(percent, (*c["both first"].values(), *c["own evidence"]))] for n, c in faceted.items()
    ]
    if rows:
        systems = list(next(iter(faceted.values()))["both first"])
        head = ["two queries as one", "pairs", *(f"both first: {s}" for s in systems)]
        parts.append(markdown([*head, "first facet's words in its part", "second facet's"], rows))
    return "\n\n".join(parts)


def _dilution_claims(found: Found, systems: Sequence[str]) -> str:
    """What AROUND irrelevant words do to each system, behind the relevant ones and in front of them."""

    def value(place: str, system: str) -> float:
        return float(np.mean([cell["ranks"][place][system] for cell in found.values()]))

    said = []
    for place in ("behind", "in front"):
        lost = {s: value(f"{place} 0", s) - value(f"{place} {AROUND}", s) for s in systems if s != "cut"}
        losses = ", ".join(f"{system} {loss:+.3f}" for system, loss in lost.items())
        what = f"{AROUND} irrelevant words {place} cost MaxSim at most {DILUTED} of its mean reciprocal rank"
        said.append(_claim(lost["MaxSim"] <= DILUTED, what, f"lost: {losses}"))
    alone = ", ".join(f"{s} {value(f'alone {AROUND}', s):.3f}" for s in systems if s != "cut")
    said.append(f"- {AROUND} irrelevant words alone, with no relevant text, reach: {alone}.")
    return "\n".join(said)


def _of_way(ways: Found, way: str) -> float:
    return float(np.mean([cell["quality"][way]["nDCG@10"] for cell in ways.values()]))


def long_tables(found: Found, lengths: Mapping[str, Any] | None) -> str:
    """Cut documents and passages; time and memory by length."""
    found = {name: cell for name, cell in found.items() if cell}
    names, parts = list(found), []
    if names:
        ways = list(found[names[0]]["quality"])
        rows = [[way, *(f"{found[n]['quality'][way]['nDCG@10']:.3f}" for n in names)] for way in ways]
        rows.append(["tokens a document", *(f"{found[n]['tokens']:.0f}" for n in names)])
        parts.append(markdown(["nDCG@10, documents joined", *names], rows))
    if lengths is not None:
        rows = [[f"{n:,}", f"{seconds:.2f}", f"{peak:.0f}"] for n, seconds, peak in lengths["rows"]]
        parts.append(markdown(["tokens (experiment: seeded, untrained)", "seconds", "peak MiB of the process"], rows))
    return "\n\n".join(parts)
