"""The parts of the comparison that need no torch: cells, figures over collections, FLOPs by hand."""

from dataclasses import replace

import pytest

from refcolbert.documents import Document
from refcolbert.evaluation.metrics import read_run
from tools.collections import Collection
from tools.compare.cells import Cells, digest_of
from tools.compare.flops import Cost, by_hand
from tools.compare.results import METRICS, difference, line

COLLECTION = Collection("c", [Document(id="d1", text="a"), Document(id="d2", text="b")], {"q": "a"}, {"q": {"d1": 1}})


class Making:
    """A computation that counts how often it is asked for."""

    def __init__(self, run=None) -> None:
        self.calls, self.run = 0, run or {}

    def __call__(self) -> tuple:
        """Its number, and always the same run."""
        self.calls += 1
        return {"value": self.calls}, self.run


def cell(queries, metrics, **more):
    """A cell with the same value for every metric, times of 1 to n milliseconds, and what else is given."""
    times = [float(i + 1) for i in range(len(queries))]
    plain = {"encode": times, "search": times, "deep": times, "flops": times, "bytes": 10.0}
    found = {metric: dict(zip(queries, metrics, strict=True)) for metric in METRICS}
    return {"queries": list(queries), "documents": [100] * len(queries), **plain, "metrics": found, **more}


def test_a_cell_is_computed_once_for_its_inputs(tmp_path):
    """The same inputs are read, others computed; what was said tells which; the time of the computation is kept."""
    said, make = [], Making()
    inputs = {"models": {"encoder": "a"}, "queries": ["1", "2"]}
    for cells in (Cells(tmp_path, said.append), Cells(tmp_path, said.append)):  # as two processes
        assert cells.get("c", "x", inputs, make) == {"value": 1}
        assert list(cells.seconds) == ["c/x"]
    for other in ({**inputs, "models": {"encoder": "b"}}, {**inputs, "queries": ["2", "1"]}):
        cells.get("c", "x", other, make)
    cells.get("c", "y", inputs, make)
    assert (make.calls, said) == (4, ["c: x"] * 3 + ["c: y"])


def test_a_cell_that_fails_leaves_nothing_that_is_taken_for_one(tmp_path):
    """An interrupted computation is done again, and the older answer to other inputs stays until then."""
    cells = Cells(tmp_path, lambda _: None)
    cells.get("c", "x", {"n": 1}, Making())

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cells.get("c", "x", {"n": 2}, interrupted)
    again = Making()
    assert cells.get("c", "x", {"n": 1}, again) == {"value": 1}
    assert again.calls == 0


def test_a_run_lies_beside_its_cell(tmp_path):
    """TREC lines that read back as they were, in their order."""
    run = {"q": {"d2": 2.5, "d1": 0.1}}
    Cells(tmp_path, lambda _: None).get("c", "x", {}, Making(run))
    assert read_run(tmp_path / "runs" / "c" / "x.trec") == run


@pytest.mark.parametrize(
    "changed",
    [
        {"documents": [Document(id="d1", text="a"), Document(id="d2", text="c")]},
        {"documents": COLLECTION.documents[::-1]},
        {"queries": {"q": "b"}},
        {"qrels": {"q": {"d1": 2}}},
    ],
)
def test_the_digest_is_of_the_whole_collection(changed):
    """Another text, order, query or judgement is another collection; its name is not looked at."""
    assert digest_of(replace(COLLECTION, name="other")) == digest_of(COLLECTION)
    assert digest_of(replace(COLLECTION, **changed)) != digest_of(COLLECTION)


def test_a_line_is_a_mean_over_collections_of_the_queries_asked_about():
    """Values are found by query id whatever the order, times are percentiles of those queries, when counts differ."""
    first = cell("abcd", [1.0, 0.0, 0.5, 0.0])
    first["metrics"] = {metric: dict(reversed(values.items())) for metric, values in first["metrics"].items()}
    second = cell("xy", [0.25, 0.75], bytes=30.0)
    found = line("s", [first, second], [["d", "c"], ["x"]])
    assert found.metrics == dict.fromkeys(METRICS, pytest.approx((0.25 + 0.25) / 2))
    assert (found.queries, found.bytes) == (3, 20.0)
    assert found.encode == pytest.approx((3.5 + 1) / 2)
    assert found.p50 == pytest.approx((7 + 2) / 2)
    assert found.p95 == pytest.approx((6 + 0.95 * 2 + 2) / 2)
    assert found.search95 == pytest.approx((3 + 0.95 + 1) / 2)


def test_a_difference_is_over_the_queries_of_both():
    """Queries that one was not asked are left out, collections weigh alike, p is that of all queries' signs."""
    one = {"c": cell("abc", [1.0, 1.0, 0.0]), "e": cell("x", [0.5])}
    other = {"e": cell("x", [0.0]), "c": cell("cb", [0.0, 0.2]), "f": cell("y", [1.0])}
    found = difference(one, other, "nDCG@10")
    assert found.mean == pytest.approx((0.4 + 0.5) / 2)
    assert found.queries == 3
    assert found.p == pytest.approx(2 / 4)


def test_flops_by_hand_for_a_small_transformer():
    """Two layers of width 4 and inner width 8, when every product is written down."""
    n, projections, feed_forward, attention = 3, 4 * 4 * 4, 2 * 4 * 8, 2 * 4
    cost = by_hand(2, 4, 8, head=4 * 2, once=5)
    expected = 2 * (n * (2 * (projections + feed_forward) + 8) + n * n * 2 * attention + 5)
    assert cost.flops([n]) == expected
    assert cost.flops([n, n]) == 2 * expected
    assert Cost(1, 0).flops([]) == 0
