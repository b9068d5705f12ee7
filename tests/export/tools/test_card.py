"""The table of models beside their bases, and the card that is written from measured files."""

import json
import shutil

import pytest
from click.testing import CliRunner

from refcolbert import Encoder
from refcolbert.errors import InvalidInput
from tools.training import card, pairs, quality

FIGURES = {
    "BM25": {"scifact": 0.5, "medline": 0.7, "adi": 0.9},
    "bi-encoder": {"scifact": 0.6, "medline": 0.6, "adi": 0.1},
    "ensemble": {"scifact": 0.8, "medline": 0.8, "adi": 0.8},
    "ours": {"scifact": 0.61, "medline": 0.68, "adi": 0.95},
}


def figures():
    """FIGURES for every metric."""
    return {
        ranker: {name: dict.fromkeys(quality.METRICS, value) for name, value in found.items()}
        for ranker, found in FIGURES.items()
    }


def cells(line):
    """A table row's cells."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_model_is_held_to_the_better_base_of_each_collection():
    """The last row holds the distances to BM25 or bi-encoder, whichever is better there; the mean leaves out adi."""
    head, _, *rows = quality.table(figures()).splitlines()
    assert cells(head) == ["nDCG@10", "scifact", "medline", "adi", "mean of 2"]
    assert [cells(row)[0] for row in rows] == [*FIGURES, "ours - better of BM25 and bi-encoder"]
    assert cells(rows[3])[1:] == ["0.6100", "0.6800", "0.9500", "0.6450"]
    assert cells(rows[4])[1:] == ["+0.0100", "-0.0200", "+0.0500", "+0.0450"]


@pytest.fixture
def data(tmp_path):
    """A collection of three documents and two queries."""
    folder = tmp_path / "data" / "one"
    (folder / "qrels").mkdir(parents=True)
    texts = {"a": "amber cobalt dusk", "b": "ember flint grove", "c": "hazel indigo juniper"}
    queries = {"q": "cobalt amber", "r": "the juniper"}
    for name, rows in (("corpus", texts), ("queries", queries)):
        lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in rows.items()]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\nr\tc\t1\n")
    return folder.parent


def test_models_and_bases_are_measured_in_one_run_and_remembered(tmp_path, data, encoder, monkeypatch):
    """The command measures every ranker; a second run reads rankings and encodes nothing."""
    arguments = [str(encoder.folder), "--data", str(data), "--cache", str(tmp_path / "cache"), "--collection", "one"]
    out = tmp_path / "figures.json"
    first = CliRunner().invoke(quality.main, [*arguments, "--json", str(out)], catch_exceptions=False)
    found = json.loads(out.read_text())["figures"]
    assert list(found) == ["BM25", "bi-encoder", "ensemble", "tiny"]
    assert found["BM25"]["one"] == {"nDCG@10": 1.0, "RR@10": 1.0, "R@100": 1.0}
    assert all(found[name]["one"]["R@100"] == 1.0 for name in found)
    monkeypatch.setattr(quality, "BM25", None)
    monkeypatch.setattr(quality, "BiEncoder", None)
    monkeypatch.setattr(quality, "scores", None)
    assert CliRunner().invoke(quality.main, arguments, catch_exceptions=False).stdout == first.stdout


def test_queries_may_be_another_models(tmp_path, data, encoder):
    """A+B has the name of both, and its own place in the cache; of one model twice it has that model's figures."""
    tiny = str(encoder.folder)
    keyed = quality.models_of([tiny, f"{tiny}+{tiny}"])
    assert list(keyed) == ["tiny", "tiny+tiny"]
    assert keyed["tiny"][0] != keyed["tiny+tiny"][0]
    arguments = [*options_of(tmp_path, data), tiny, f"{tiny}+{tiny}"]
    CliRunner().invoke(quality.main, arguments, catch_exceptions=False)
    found = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert found["tiny"] == found["tiny+tiny"]


def options_of(folder, data):
    """The options of a run without bases that writes figures.json."""
    options = ["--data", str(data), "--cache", str(folder / "cache"), "--collection", "one", "--no-baselines"]
    return [*options, "--json", str(folder / "figures.json")]


@pytest.fixture
def work(tmp_path, encoder):
    """A recipe's folder, with one line of training data."""
    folder = tmp_path / "work"
    folder.mkdir()
    sources = {source.name: {"licence": source.licence} for source in card.SOURCES}
    (folder / "pairs.jsonl.json").write_text(json.dumps({"sources": sources, "pairs": 2000}))
    blocks = {
        "lines": 1746,
        "scores": "20.0 * (cosine + 0.4 * BM25)",
        "counts": {"medquad: given": 1200, "medquad: sentence": 34},
    }
    (folder / "blocks.jsonl.json").write_text(json.dumps(blocks))
    pairs.write_lines(folder / "blocks.jsonl.gz", [{"query": "gout?", "positive": "a disease", "negatives": ["n"]}])
    pairs.write_lines(folder / "pairs.jsonl.gz", [{"query": "gout?", "positive": "a disease"}])
    settings = {"losses": {"kl": 1.0}, "batch": 8, "seed": 7, "freeze": None, "dropout": 0.0, "metric": "nDCG@10"}
    log = [{"step": i, "loss": 1 / i, "kl": 1 / i, "examples_per_s": 0.1} for i in range(1, 41)]
    for run, length in (("run", 128), ("long", 288), ("small-run", 256)):
        validated = [{"step": step, "validation": {"nDCG@10": (length + step) / 1000}} for step in (0, 40)]
        (folder / run).mkdir()
        (folder / run / "settings.json").write_text(json.dumps({**settings, "document_length": length}))
        (folder / run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in [*log, *validated]))
    about = {"split": "test", "bi-encoder": "torch.bfloat16", "models": {"ours": Encoder.load(encoder.folder).hash}}
    (folder / "figures.json").write_text(json.dumps({**about, "figures": figures()}))
    return folder


@pytest.fixture
def model(tmp_path, encoder):
    """The tiny model with a parity report."""
    folder = shutil.copytree(encoder.folder, tmp_path / "model")
    report = {"model": Encoder.load(folder).hash, "variant": "int8", "texts": [1, 2], "shapes": [1]}
    (folder / "parity.json").write_text(json.dumps(report | {"worst": {"max_abs": 0.0123, "min_cosine": 0.99}}))
    return folder


def test_the_card_says_what_was_measured(work, model, data):
    """Licences, counts, settings, time, losses, parity and scores stand in the card as the files have them."""
    text = card.card(model, work, data, work / "figures.json")
    for said in (
        Encoder.load(model).hash,
        "1,234 queries",
        "| medquad | CC BY 4.0 | MedQuAD (Ben Abacha and Demner-Fushman 2019), ",
        " | 1,200 / 34 |",
        "| acl_title_abstract | CC BY 4.0 | ACL Anthology, papers of 2016 and later, without LREC | 0 / 0 |",
        "of 3 training texts none equals one of 3 titles, texts and queries",
        "losses 1 kl, batch 8, seed 7, dropout 0.0, metric nDCG@10, document_length 128\n",
        "40 steps on one core, 53 minutes",
        "Then 40\nsteps with documents of 288 tokens.",
        "Ranking of 512 queries",
        "nDCG@10 after a number of steps: 0: 0.128, 40: 0.168;\nwith long documents 0: 0.288, 40: 0.328.",
        "kl 0.750 to 0.025",
        "on 2 texts and 1 shapes",
        "1.2e-02, the smallest cosine 0.99000",
        quality.table(figures(), "RR@10"),
    ):
        assert said in text
    assert "{" not in text


def test_the_small_models_card_says_what_was_measured(work, model, data):
    """Its own training and scores; what it has from the default model is told on that card."""
    text = card.small_card(model, work, data, work / "figures.json")
    for said in (
        Encoder.load(model).hash,
        "1,488 pairs, documents cut at 256 tokens",
        "Then 40 steps on one core, 53 minutes",
        "kl 0.750 to 0.025",
        "nDCG@10 after a number of steps: 0: 0.256, 40: 0.296.",
        "of 2 training texts none equals one of 3 titles, texts and queries",
        quality.table(figures(), "RR@10"),
    ):
        assert said in text
    assert "{" not in text


def test_no_card_for_a_leak_or_another_models_report(work, model, data):
    """A test text in the training data, a parity report of another model and a missing file are refused by name."""
    with pytest.raises(InvalidInput, match=r"other\.json cannot be read"):
        card.card(model, work, data, work / "other.json")
    pairs.write_lines(work / "blocks.jsonl.gz", [{"query": "q", "positive": "Hazel, indigo: juniper"}])
    with pytest.raises(InvalidInput, match=r"found 1, the first of one corpus\.jsonl:3"):
        card.card(model, work, data, work / "figures.json")
    parity = json.loads((model / "parity.json").read_text())
    (model / "parity.json").write_text(json.dumps(parity | {"model": "0" * 64}))
    with pytest.raises(InvalidInput, match="another model"):
        card.card(model, work, data, work / "figures.json")


def test_no_card_with_another_models_figures(work, model, data):
    """Figures of another model or of another split are refused by name."""
    found = json.loads((work / "figures.json").read_text())
    for changed in ({"models": {"ours": "0" * 64}}, {"split": "dev"}):
        (work / "figures.json").write_text(json.dumps(found | changed))
        with pytest.raises(InvalidInput, match=r"expected test figures of the model"):
            card.card(model, work, data, work / "figures.json")
    (work / "figures.json").write_text(json.dumps(found))
    with pytest.raises(InvalidInput, match=r"found no \*/corpus\.jsonl"):
        card.card(model, work, work, work / "figures.json")
