"""The comparison as a command: one run, resumed, on a page; its experiments; what its sentences say of the figures."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from compare_parts import QRELS, QUERIES, TEXTS, write_collection, write_cross_encoder, write_sentence_encoder

from refcolbert.evaluation.metrics import read_run
from refcolbert_export.mining.teachers import BM25
from tools.collections import load
from tools.compare import __main__ as command
from tools.compare import augmentation, interaction, long_documents, robustness
from tools.compare.judged import quality, relevant
from tools.compare.parts import Models, Parts
from tools.compare.results import METRICS
from tools.compare.rows import augmented, maxima
from tools.compare.sentences import Sentences, export_sentences
from tools.compare.systems import SYSTEMS
from tools.compare.tables import (
    COLBERT,
    CROSS,
    DEEPER,
    by_collection,
    deep_table,
    main_table,
    robustness_tables,
    row_tables,
    verdict,
)

DOCS = Path(__file__).parents[2] / "docs"
TINY = Path(__file__).parents[1] / "models" / "tiny"
EXACT = ("share", "cosine exact", "cosine semantic")
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
    given += ["--queries", "5", "--sample", "4", "--deep", "2", "--threads", "1", "--longest", "0"]
    given += [] if cross is None else ["--cross-encoder", folders["crosses"][cross]]
    done = CliRunner().invoke(command.main, [str(word) for word in [*given, *more]], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stderr


def marked(folder):
    """A page with every marker of the real one, and nothing between them."""
    names = MARKER.findall((DOCS / "comparison.md").read_text())
    page = folder / "page.md"
    page.write_text("".join(f"words on {n}\n<!-- compare:{n} -->\n<!-- /compare:{n} -->\n" for n in names))
    return page


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    """(work folder, page, what the command said) of a whole run."""
    work = tmp_path_factory.mktemp("finished")
    page = marked(tmp_path_factory.mktemp("page"))
    return work, page, run(folders, work, "--page", page)


def test_one_command_fills_the_page(finished):
    """Tables, plots, figures and TREC runs of every system are there, and the page keeps its own words."""
    work, page, _ = finished
    text = page.read_text()
    for system in SYSTEMS:
        assert f"| {system.name}" in text
        asked = {"all": 5, "cross": 4, "deep": 2}[system.sample]
        assert len(read_run(work / "runs" / "tiny" / f"{system.name}.trec")) <= asked
    assert text.count("words on ") == len(MARKER.findall(text))
    assert "-->\n<!-- /compare" not in text  # nothing is left empty
    assert "nan" not in text.lower().split("published")[0]
    plots = {path.name for path in (page.parent / "page").iterdir()}
    assert plots == {path.name for path in (work / "plots").iterdir()}
    assert plots >= {"quality-latency.png", "rows.png", "cosines.png", "matches.png", "dilution.png"}
    figures = json.loads((work / "comparison.json").read_text())
    assert [line["system"] for line in figures["lines"]] == [system.name for system in SYSTEMS]
    assert set(figures["examined"]) == {"augmentation", "interaction", "dilution", "facets", "long"}


def test_the_page_says_how_it_was_made(finished, folders):
    """The command without a folder of this machine, the date, the machine, models and samples."""
    text = finished[1].read_text()
    about = text.partition("<!-- compare:about -->")[2].partition("<!-- /compare:about -->")[0]
    line = "`python -m tools.compare tiny --data DATA --model MODEL --cross-encoder CROSS-ENCODER --sentences SENTENCES"
    assert line in about
    assert "--queries 5 --sample 4 --deep 2" in about
    assert str(folders["data"].parent) not in text
    assert re.search(r"- Date: \d{4}-\d\d-\d\d\n- Machine: .+ cores", about)
    assert "tiny 4 of 5" in about


def test_a_second_run_computes_nothing(finished, folders):
    """All cells are read, and the same tables come out."""
    work, page, said = finished
    before = (work / "comparison.md").read_text()
    assert said.count("tiny: ") == len(SYSTEMS) + 5 + 4  # four indexes
    assert run(folders, work, "--page", page) == ""
    assert (work / "comparison.md").read_text() == before


def test_a_new_cross_encoder_costs_its_own_cells_alone(finished, folders):
    """What does not depend on the changed model is read; without one its systems are left out."""
    work, page, _ = finished
    said = [line.split("tiny: ")[1] for line in run(folders, work, "--page", page, cross=1).splitlines()]
    assert said == [CROSS, DEEPER]
    assert run(folders, work, cross=None) == ""
    text = (work / "comparison.md").read_text()
    assert CROSS not in text.partition("published")[0].replace(f"{DEEPER} was not run.", "")
    assert "not measured: how near the cross-encoder is" in text


def test_experiments_are_left_out_where_they_are_not_wanted(folders, finished):
    """`--examine` names the collections that they take; the page says where there were none, and how it was called."""
    run(folders, finished[0], "--examine", "another", cross=None)
    text = (finished[0] / "comparison.md").read_text()
    assert text.count("Not run.") == 3
    assert "--examine another" in text


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
    given += ["--work", tmp_path, "--queries", "3", "--no-experiments", "--longest", "0", "--threads", "1"]
    assert CliRunner().invoke(command.main, [str(word) for word in given]).exit_code == 1
    done = calls[:-1]
    monkeypatch.setattr(command, "measure", lambda *of: (calls.append(of[0].name), measure(*of))[1])
    calls.clear()
    assert CliRunner().invoke(command.main, [str(word) for word in given]).exit_code == 0
    assert calls[0] == "colbert-2-bits"
    assert not set(calls) & set(done)


def test_the_page_in_the_docs_is_filled():
    """Each of its sections has a content and each of its plots is there."""
    text = (DOCS / "comparison.md").read_text()
    assert len(MARKER.findall(text)) == text.count("<!-- /compare:") > 8
    assert "-->\n<!-- /compare" not in text
    plots = re.findall(r"\]\((comparison/[^)]+)\)", text)
    assert sorted(DOCS / name for name in plots) == sorted((DOCS / "comparison").iterdir())


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


def test_what_was_not_measured_is_extrapolated_by_its_pairs():
    """Times and FLOPs grow with what BM25 found, quality is not guessed; fewer than 100 documents stay as they are."""
    found, sampled = results(late=0.5, bm25=0.4, single=0.3, cross=0.5)
    found[CROSS] = {"c": cell(0.5, p50=100.0, documents=750), "e": cell(0.5, p50=100.0, documents=40)}
    row = main_table(found, {**sampled, "e": sampled["c"]}).splitlines()[-1]
    assert row.startswith(
        f"| {DEEPER} (extrapolated) | – | – | – | – | 425.0 | 425.0 | 0.0 | 425.0 / 425.0 | 425.0 | 425 M"
    )
    assert "extrapolated" not in main_table({**found, DEEPER: found[CROSS]}, {**sampled, "e": sampled["c"]})


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


def test_expansion_is_claimed_by_what_rows_add():
    """Each way and number by its mean over the collections, beside no rows at all."""
    rows = {
        way: [{"nDCG@10": v} for v in values] for way, values in (("unattended", (0.5, 0.6)), ("attended", (0.5, 0.4)))
    }
    positions = {"masks": {"first marker": [0.1]}}
    matches = {"kinds": ["a marker"], "shares": [[1.0]], "cosine": [0.5]}
    found = {"rows": [0, 32], **rows, "masks alone": {"nDCG@10": 0.3}, "matches": matches, "positions": positions}
    table = row_tables({"c": found, "e": {}})
    assert "- holds: 32 [MASK] rows, unattended, rank better than none (+0.1000 nDCG@10)." in table
    assert "- **does not hold**: 32 [MASK] rows, attended, rank better than none (-0.1000 nDCG@10)." in table
    assert "4 [MASK] rows" not in table


def test_dilution_is_claimed_by_what_is_lost():
    """Each side of the text by the reciprocal rank that 100 words take, in the mean over collections."""
    same, places = (
        {"MaxSim": 0.5, "BM25": 0.4, "cut": 0},
        [f"{place} {n}" for place in ("behind", "in front", "alone") for n in (0, 100)],
    )
    kept = dict.fromkeys(places, same)
    less = {**kept, "in front 100": {"MaxSim": 0.44, "BM25": 0.4, "cut": 1}}
    cells = {name: {"words": [0, 100], "ranks": ranks} for name, ranks in (("a", kept), ("b", less))}
    table = robustness_tables({"a": {"quality": {}, "exact": dict.fromkeys(EXACT, 0.5)}}, cells, {})
    assert "- holds: 100 irrelevant words behind cost MaxSim" in table
    assert "- **does not hold**: 100 irrelevant words in front cost MaxSim" in table
    assert "(lost: MaxSim +0.030, BM25 +0.000)" in table
    assert "- 100 irrelevant words alone, with no relevant text, reach: MaxSim 0.500, BM25 0.400." in table


# ---- the experiments


@pytest.fixture(scope="module")
def parts(folders, encoder, tmp_path_factory):
    """The collection and the encoders."""
    models = Models(encoder, Sentences(folders["sentences"], 1), None)
    found = Parts(load(folders["data"], "tiny"), models, tmp_path_factory.mktemp("parts"), lambda _: None)
    yield found
    found.close()


def test_quality_by_rows_is_that_of_queries_with_so_many_rows(parts, encoder):
    """The figures for n rows equal those of queries encoded with n rows, attended or not; shares of matches add up."""
    found = augmentation.examine(parts, QUERIES)
    documents, texts = parts.vectors(), list(QUERIES.values())
    for way, attended in (("unattended", False), ("attended", True)):
        for n in (0, 8, 48):
            rows = augmented(encoder, texts, n, attended)
            scores = {name: maxima(r.vectors, documents).sum(1) for name, r in zip(QUERIES, rows, strict=True)}
            assert found[way][found["rows"].index(n)] == pytest.approx(quality(parts, scores)), (way, n)
    np.testing.assert_allclose(np.sum(found["matches"]["shares"], axis=1), 1, atol=1e-3)
    cosines = np.array(found["positions"]["cosines"])
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-3)
    assert found["positions"]["masks"]["first [MASK]"][0] == pytest.approx(1, abs=1e-3)
    assert found["positions"]["words"][0] == 1


def test_ways_of_scoring_by_hand(parts, encoder):
    """MaxSim, one vector by mean or by maximum, the best pair, exact and other matches, for one query and document."""
    documents, name = parts.vectors(), "q3"
    (q,), (words,) = encoder.encode_queries([QUERIES[name]]), augmented(encoder, [QUERIES[name]], 0)
    ids = interaction._token_ids(parts)
    pooled = interaction.means(documents), interaction.unit(interaction.best_of(documents.vectors, documents))
    ways, (exact, semantic) = interaction._scores(q, words, documents, pooled, ids)
    d, own = documents[3], ids[documents.offsets[3] : documents.offsets[4]]
    table = q @ d.T  # [n_q, n_d]
    assert ways["MaxSim"][3] == pytest.approx(table.max(1).sum(), rel=1e-5)
    assert ways["best pair"][3] == pytest.approx(table.max(), rel=1e-5)
    for way, pool in (("mean pooling", np.mean), ("max pooling", np.max)):
        one, other = pool(q, axis=0), pool(d, axis=0)
        assert ways[way][3] == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), rel=1e-4)
    table = words.vectors[~words.marked] @ d.T  # [n_words, n_d]
    same = words.ids[~words.marked][:, None] == own[None, :]
    assert same.any()
    np.testing.assert_allclose(exact[3], [max([*t[s], 0]) for t, s in zip(table, same, strict=True)], atol=1e-5)
    np.testing.assert_allclose(semantic[3], [t[~s].max() for t, s in zip(table, same, strict=True)], atol=1e-5)
    assert ways["exact matches"][3] == pytest.approx(exact[3].sum())
    found = interaction.examine(parts, QUERIES)
    assert set(found["quality"]) == set(ways)
    assert 0 < found["exact"]["share"] < 1


def test_words_are_scored_as_bm25_scores_them(parts):
    """A text of the collection has the score that the index gives it; another text leaves the statistics alone."""
    words, index = robustness.Words(parts.bm25, parts.texts), BM25(TEXTS)
    for query in [*QUERIES.values(), "wing wing heat"]:
        found = [words.score(query, text) for text in TEXTS]
        np.testing.assert_allclose(found, index.scores(query), rtol=1e-5)
    assert words.score("heat", "heat") > words.score("heat", "heat and a layer of words behind it") > 0


def test_a_document_that_is_not_diluted_has_its_own_rank(parts, encoder):
    """Without irrelevant words a rank is that of the relevant document among those that are not relevant."""
    found = robustness.dilution(parts, QUERIES, 0)
    ranks = []
    for name, q in zip(QUERIES, encoder.encode_queries(list(QUERIES.values())), strict=True):
        scores, mine = maxima(q, parts.vectors()).sum(1), relevant(parts, name)
        others = np.delete(scores, mine)
        own = maxima(q, encoder.encode_documents([TEXTS[mine[0]]])).sum()
        ranks.append(1 + (others >= own).sum())
    assert found["ranks"]["behind 0"]["MaxSim"] == pytest.approx(np.mean(1 / np.array(ranks)), abs=0.02)
    assert found["ranks"]["behind 0"] == found["ranks"]["in front 0"]
    assert found["ranks"]["behind 300"]["cut"] == 1
    assert robustness._diluted("a", ["x", "y"], "behind") == "a x y"
    assert robustness._diluted("a", ["x", "y"], "in front") == "x y a"
    assert robustness._diluted("a", ["x", "y"], "alone") == "x y"
    assert "alone 50" in found["ranks"]
    assert "alone 0" not in found["ranks"]


def test_facets_have_their_evidence_in_their_part(parts):
    """Pairs do not answer each other's query; a word's match is found in the part that holds it."""
    found = robustness.facets(parts, QUERIES, 0)
    pairs = robustness._pairs(parts, QUERIES, 0)
    assert found["pairs"] == len(pairs) >= 2
    for a, b, i, j in pairs:
        assert parts.ids[i] in QRELS[a]
        assert parts.ids[j] in QRELS[b]
        assert parts.ids[i] not in QRELS[b]
        assert parts.ids[j] not in QRELS[a]
    text = f"{TEXTS[3]}\n{TEXTS[1]}"
    document = parts.models.encoder.encode_documents([text])
    (rows,) = augmented(parts.models.encoder, ["wing date"], 0)
    shares = robustness._evidence(parts, rows, 1, text, len(TEXTS[3]), document)
    spans = parts.models.encoder.document_labels(text)[1]
    best = [spans[i][0] for i in (rows.vectors[2:4] @ document[0].T).argmax(1)]
    assert shares == [float(best[0] < len(TEXTS[3])), float(best[1] >= len(TEXTS[3]))]
    assert robustness._evidence(parts, rows, 2, text, len(TEXTS[3]), document)[1] is None


def test_long_documents_are_relevant_where_a_part_is(parts, monkeypatch):
    """Each joined document is relevant with its best part's grade; passages are pooled to their document."""
    documents, qrels = long_documents._joined(parts, QUERIES, 0)
    text_of = {document.id: document.text for document in documents}
    assert sum(len(text.split("\n")) for text in text_of.values()) == len(TEXTS)
    for name, judged in qrels.items():
        for place, grade in judged.items():
            inside = [g for d, g in QRELS[name].items() if TEXTS[int(d[1:])] in text_of[place].split("\n")]
            assert grade == max(inside)
    scores, groups = np.array([1.0, 3.0, 2.0]), np.array([0, 0, 1])
    assert long_documents._best(scores, groups).tolist() == [3, 2]
    assert long_documents._mean(scores, groups).tolist() == [2, 2]
    monkeypatch.setattr(long_documents, "PASSAGE", 20)
    found = long_documents.examine(parts, QUERIES, 0)
    assert {"BM25, whole", "ColBERT, cut at 64", "ColBERT, best passage"} <= set(found["quality"])
    assert found["passages"] > found["documents"]
