"""The comparison as a command: one run, resumed, on a page, and the claims that it writes."""

import json
import re

import pytest
from click.testing import CliRunner
from compare_parts import write_collection, write_cross_encoder, write_sentence_encoder

from refcolbert.errors import InvalidInput
from refcolbert.evaluation.metrics import read_run
from tools import ROOT
from tools.compare import __main__ as command
from tools.compare.results import METRICS
from tools.compare.sentences import export_sentences
from tools.compare.systems import SYSTEMS
from tools.compare.tables import COLBERT, CROSS, DEEPER, by_collection, deep_table, fill, verdict

PAGE = ROOT / "docs" / "comparison.md"
TINY = ROOT / "tests" / "models" / "tiny"
MARKER = re.compile(r"<!-- compare:([\w-]+) -->")


@pytest.fixture(scope="module")
def folders(transformer, tmp_path_factory):
    """The tiny collection and models, two cross-encoders among them."""
    folder = tmp_path_factory.mktemp("command")
    write_collection(folder / "data" / "tiny")
    export_sentences(write_sentence_encoder(folder / "source"), folder / "sentences")
    crosses = [write_cross_encoder(transformer, folder / f"cross{seed}", seed)[1] for seed in (0, 1)]
    return {"data": folder / "data", "sentences": folder / "sentences", "crosses": crosses}


def run(folders, work, *more, cross=0):
    """(standard error of the command, its exit code) on the tiny collection."""
    given = ["tiny", "--data", folders["data"], "--model", TINY, "--sentences", folders["sentences"], "--work", work]
    given += ["--queries", "5", "--sample", "4", "--deep", "2", "--threads", "1"]
    given += [] if cross is None else ["--cross-encoder", folders["crosses"][cross]]
    done = CliRunner().invoke(command.main, [str(word) for word in [*given, *more]], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stderr


def marked(folder):
    """A page with every marker of the real one, and nothing between them."""
    names = MARKER.findall(PAGE.read_text())
    page = folder / "page.md"
    page.write_text("".join(f"words on {n}\n<!-- compare:{n} -->\n<!-- /compare:{n} -->\n" for n in names))
    return page


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    """(work folder, page, what the command said) of a whole run."""
    work = tmp_path_factory.mktemp("finished")
    page = marked(tmp_path_factory.mktemp("page"))
    return work, page, run(folders, work, "--page", page)


def test_one_command_fills_the_page(finished, folders):
    """The page has its own words, tables of every system, plots and the command without paths; every system a run."""
    work, page, _ = finished
    text = page.read_text()
    for system in SYSTEMS:
        assert f"| {system.name}" in text
        asked = {"all": 5, "cross": 4, "deep": 2}[system.sample]
        assert len(read_run(work / "runs" / "tiny" / f"{system.name}.trec")) <= asked
    assert text.count("words on ") == len(MARKER.findall(text))
    assert "-->\n<!-- /compare" not in text  # nothing is left empty
    assert "nan" not in text.lower()
    assert "`python -m tools.compare tiny --data DATA --model MODEL" in text
    assert str(folders["data"].parent) not in text
    plots = {path.name for path in (page.parent / "page").iterdir()}
    assert plots == {"quality-latency.png", "quality-bytes.png"}
    figures = json.loads((work / "comparison.json").read_text())
    assert [line["system"] for line in figures["lines"]] == [system.name for system in SYSTEMS]


def test_a_second_run_computes_nothing(finished, folders):
    """All cells are read, and the same tables come out."""
    work, page, said = finished
    before = (work / "comparison.md").read_text()
    assert said.count("tiny: ") == len(SYSTEMS) + 4  # four indexes
    assert run(folders, work, "--page", page) == ""
    assert (work / "comparison.md").read_text() == before


def test_a_new_cross_encoder_costs_its_own_cells_alone(finished, folders):
    """Cells of other models are read when one model changes; without a model its systems are left out."""
    work, page, _ = finished
    said = [line.split("tiny: ")[1] for line in run(folders, work, "--page", page, cross=1).splitlines()]
    assert said == [CROSS, DEEPER]
    assert run(folders, work, cross=None) == ""
    text = (work / "comparison.md").read_text()
    assert CROSS not in text.replace(f"{DEEPER} was not run.", "")
    assert "not measured: how near the cross-encoder is" in text


def test_an_interrupted_run_goes_on(folders, tmp_path, monkeypatch):
    """The cells before the interruption are read, the one in which it happened is computed again."""
    measure, calls = command.measure, []

    def stopped(system, parts, queries):
        calls.append(system.name)
        if system.name == "colbert-2-bits":
            raise KeyboardInterrupt
        return measure(system, parts, queries)

    monkeypatch.setattr(command, "measure", stopped)
    given = ["tiny", "--data", folders["data"], "--model", TINY, "--sentences", folders["sentences"]]
    given += ["--work", tmp_path, "--queries", "3", "--threads", "1"]
    assert CliRunner().invoke(command.main, [str(word) for word in given]).exit_code == 1
    done = calls[:-1]
    monkeypatch.setattr(command, "measure", lambda *of: (calls.append(of[0].name), measure(*of))[1])
    calls.clear()
    assert CliRunner().invoke(command.main, [str(word) for word in given]).exit_code == 0
    assert calls[0] == "colbert-2-bits"
    assert not set(calls) & set(done)


def test_a_page_keeps_its_words_and_gets_its_sections():
    r"""Everything between a section's markers is replaced, twice in a row too, and a backslash is no command."""
    text = "before\n<!-- compare:a -->\nold\n<!-- /compare:a -->\nafter\n"
    once = fill(text, {"a": "| 1 \\d |"})
    assert once == "before\n<!-- compare:a -->\n| 1 \\d |\n<!-- /compare:a -->\nafter\n"
    assert fill(once, {"a": "new"}) == fill(text, {"a": "new"})
    for page in ("none", text + text):
        with pytest.raises(InvalidInput, match="compare:a"):
            fill(page, {"a": "x"})


def cell(ndcg, n=12, p50=10.0, documents=500):
    """A cell whose queries all have one nDCG@10 and one time."""
    names = [str(i) for i in range(n)]
    times = {"encode": [0.0] * n, "search": [p50] * n, "deep": [p50] * n, "flops": [1e6 * p50] * n}
    metrics = {metric: dict.fromkeys(names, ndcg) for metric in METRICS}
    return {"queries": names, "documents": [documents] * n, "bytes": 1.0, "metrics": metrics, **times}


def results(**ndcg):
    """One collection's cells of the systems that a verdict speaks of."""
    late, bm25, single, cross = (ndcg.get(name) for name in ("late", "bm25", "single", "cross"))
    found = {COLBERT: {"c": cell(late)}, "bm25": {"c": cell(bm25)}, "bi-encoder-flat": {"c": cell(single)}}
    return {**found, CROSS: {"c": cell(cross, p50=ndcg.get("p50", 300.0))}}, {"c": [str(i) for i in range(12)]}


def test_a_verdict_says_what_holds_and_what_does_not():
    """Each claim by its figures: above both, near the cross-encoder, a twentieth of its time, a ceiling or none."""
    good = verdict(*results(late=0.5, bm25=0.4, single=0.3, cross=0.51))
    assert good.count("- holds: ") == 5
    assert "+0.100, 12 queries that both were asked, p = 0.00049)" in good
    assert "(1/30.0, and 1/30.0 of its FLOPs)" in good
    assert f"- {CROSS} ranks best of all that were asked the same queries: 0.510." in good
    bad = verdict(*results(late=0.4, bm25=0.4, single=0.5, cross=0.45, p50=190.0))
    assert bad.count("- **does not hold**: ") == 5
    assert "+0.000, 12 queries that both were asked, p = 1, which may be chance" in bad
    near = verdict(*results(late=0.431, bm25=0.4, single=0.3, cross=0.45, p50=200.0))
    assert near.count("- holds: ") == 5
    odd = verdict(*results(late=0.5, bm25=0.4, single=0.3, cross=0.45))
    assert "ranks better than" in odd
    assert f"- {COLBERT} ranks best" in odd
    assert odd.count("- holds: ") == 5


def test_the_deeper_reranker_is_compared_on_its_own_queries():
    """Every system's line is over the queries that the deeper one was asked."""
    found, _ = results(late=0.5, bm25=0.4, single=0.3, cross=0.5)
    found["bm25"]["c"]["metrics"]["nDCG@10"]["1"] = 0.0
    found[DEEPER] = {"c": cell(0.6, n=2)}
    table = deep_table(found).splitlines()
    assert table[0].startswith("| 2 queries |")
    assert table[2] == "| colbert-4-bits | 0.500 | 0.500 | 0.500 | 0.500 |"
    assert table[3] == "| bm25 | 0.400 | 0.200 | 0.400 | 0.400 |"
    assert DEEPER not in by_collection(found, {"c": [str(i) for i in range(12)]}, "nDCG@10")
