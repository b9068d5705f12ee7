"""Plans: bytes against indexes that are built, times against counting by hand."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from click.testing import CliRunner
from strategies import topical

from refcolbert import Index
from refcolbert.cli import main
from refcolbert.engine.kmeans import centroid_count
from refcolbert.errors import InvalidInput
from refcolbert.evaluation.calibration import DISTINCT, LOADED, NEAREST, UNIQUE, Calibration, Shape, calibrate
from refcolbert.evaluation.plan import ALL_BITS, PARTS, parts_of, plan

NAMES = [field.name for field in fields(Calibration)]
POWERS = Calibration(**{name: 2.0**-i for i, name in enumerate(NAMES)})  # seconds that tell which were added
NONE = Calibration(**dict.fromkeys(NAMES, 0.0))
EXACT = {"codes", "residuals", "vectors", "scales", "spreads", "offsets"}
WORDS = ["date", "file", "folder", "parse", "list", "rows", "text", "into", "csv", "read", "write", "open"]


def texts(n, seed=0):
    """Texts of 3 to 40 words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 40))) for _ in range(n)]


@pytest.mark.parametrize("nbits", ALL_BITS)
@pytest.mark.parametrize("pool_factor", [1, 3])
def test_bytes_are_those_of_the_index(tmp_path, encoder, nbits, pool_factor):
    """Parts that follow from counts are predicted to the byte when every document is in the sample."""
    documents = texts(300)
    options = {"nbits": nbits, "pool_factor": pool_factor, "train_at": 500}
    index = Index.build(tmp_path / "i", documents, encoder, **options)
    found = plan(300, sample=documents, encoder=encoder, calibration=NONE, **options)
    assert found.n_tokens == index.info()["tokens"]
    assert found.n_centroids == index.info()["centroids"]
    sizes, held = found.bytes_of[str(nbits)], parts_of(index.info()["bytes_of"])
    assert set(sizes) == set(held)
    assert sum(held.values()) == index.info()["bytes"]
    for part in EXACT & set(held):
        assert sizes[part] == held[part], part
    assert sizes["texts"] == pytest.approx(held["texts"], rel=0.15)  # pages of a small file
    if "centroids" in sizes:
        assert sizes["centroids"] == pytest.approx(held["centroids"], rel=0.02)


def test_a_sample_stands_for_more(tmp_path, encoder):
    """An index of three times as many documents is predicted to 3 % when the sample is a third of them."""
    documents = texts(900)
    index = Index.build(tmp_path / "i", documents, encoder, nbits=8, train_at=500)
    found = plan(900, sample=documents[::3], encoder=encoder, nbits=8, train_at=500, calibration=NONE)
    held = parts_of(index.info()["bytes_of"])
    assert found.bytes_of["8"]["residuals"] == pytest.approx(held["residuals"], rel=0.03)
    lengths = index.vectors([str(i) for i in range(0, 900, 3)]).lengths
    assert found.standard_error == pytest.approx(lengths.std() / lengths.mean() / 300**0.5)


def test_few_tokens_stay_raw():
    """No number of bits makes a difference when there are fewer tokens than a codec is fitted to."""
    found = plan(100, 20, dim=16, calibration=NONE)
    assert found.n_centroids is None
    assert all(found.bytes_of[bits] == found.bytes_of["float16"] for bits in ("1", "2", "4", "8"))
    assert found.bytes_of["float32"]["vectors"] > found.bytes_of["float16"]["vectors"]
    assert set(found.query) == {"encode", "scan", "answer"}


def test_large_counts_by_hand():
    """A million documents of 100 tokens take what the format's table says, times their number."""
    found = plan(1_000_000, 100, dim=128, text_bytes=400, calibration=NONE)
    n = 100_000_000
    assert (found.n_tokens, found.n_centroids) == (n, centroid_count(n))
    assert found.one_vector_bytes == 1_000_000 * 512
    header = 128  # of an .npy file
    sizes = found.bytes_of["2"]
    assert sizes["residuals"] == n * 128 * 2 // 8 + header
    assert sizes["codes"] == sizes["scales"] == 2 * n + header
    assert sizes["spreads"] == n + header
    assert sizes["offsets"] == 8 * 2_000_001 + 2 * header
    assert sizes["lists"] == round(DISTINCT * n) * 4 + 65536 * 12 + 8 + 3 * header
    assert sizes["centroids"] == 65536 * 512 + 256 * 512 + 8 * 257 + 512 + 4 * header
    assert 400 < sizes["texts"] / 1e6 < 600


def test_build_time_is_counts_times_rates():
    """Each stage of a build is its count times the calibrated seconds."""
    c = POWERS
    found = plan(10_000, 100, dim=128, calibration=c)
    n, vectors = 1_000_000, 64 * 8192  # 16 sqrt(n) is 16,000: 8,192 centroids
    assert found.n_centroids == 8192
    length = 1.1 * 100
    assert found.build["encode"] == pytest.approx(10_000 * (length * c.token + 1.25 * length**2 * c.pair))
    assert found.build["fit"] == pytest.approx(c.fit_steps + vectors * (c.fit_vector + 8192**0.5 * c.fit_root))
    assert found.build["compress"] == pytest.approx(n * c.compress)
    assert found.build["store"] == pytest.approx(n * c.store)


def test_query_time_is_counts_times_rates():
    """Each stage of a search is its count times the calibrated seconds, in milliseconds."""
    c = POWERS
    found = plan(10_000, 100, dim=128, calibration=c, nprobe=2, candidates=64)
    cells = UNIQUE * 32 * 2
    entries = cells / 8192 * LOADED * DISTINCT * 1_000_000
    documents = 10_000 * (1 - np.exp(-entries / 10_000))
    assert documents > 4 * 64
    expected = {
        "encode": c.query,
        "centroids": c.centroids,
        "cells": c.cells,
        "candidates": entries * c.candidates,
        "prune": 4 * 64 * 100 * c.prune,
        "refine": 64 * 100 * c.refine,
        "rank": 32 * 100 * c.rank,
        "answer": c.answer,
    }
    assert found.query == pytest.approx({stage: 1e3 * seconds for stage, seconds in expected.items()})
    few = plan(2_000, 100, dim=128, calibration=c, candidates=2_000)
    assert few.query["rank"] == pytest.approx(1e3 * 200_000 * c.rank)
    assert set(few.query) == {"encode", "centroids", "rank", "answer"}


def test_flops_are_those_of_the_products(encoder):
    """A query's FLOPs are two for each multiplication of encoder, centroids and MaxSim."""
    found = plan(10_000, 100, encoder=encoder, calibration=NONE)
    layers, hidden, inner, dim, n = 2, 32, 64, 16, 32
    by_token = layers * (4 * hidden**2 + 2 * hidden * inner) + hidden * dim
    assert found.flops["encode"] == 2 * (n * by_token + n * n * layers * 2 * hidden)
    assert found.flops["centroids"] == 2 * n * dim * 8192
    assert found.flops["refine"] == round(2 * n * dim * 1024 * 100 * NEAREST)
    assert found.flops["rank"] == 2 * n * dim * 32 * 100
    assert found.flops["scan"] == 2 * n * dim * 1_000_000
    assert "encode" not in plan(10_000, 100, dim=16, calibration=NONE).flops


def test_memory_grows_with_what_is_held():
    """Mapped are all files; building holds a sample of the vectors and counts of all; disk holds the raw vectors."""
    found = plan(1_000_000, 100, dim=128, calibration=NONE)
    assert found.memory["search"] == sum(found.bytes_of["4"].values())
    assert found.memory["build"] == 2.5 * 512 * (1 << 20) + 100 * 1_000_000 + 6 * 100_000_000
    assert found.memory["building"] == 256 * 100_000_000 + found.bytes_of["4"]["texts"]
    assert found.memory["query"] < 2**30


def test_the_machine_is_measured(encoder):
    """Every step that the shape has takes some time, and those it does not have take none."""
    shape = Shape(dim=16, n_q=8, n_docs=50, tokens=20.0, n_centroids=64, nbits=4, text_bytes=50)
    found = calibrate(shape, encoder)
    positive = set(NAMES) - {"pair", "fit_vector", "fit_root", "answer"}  # differences of times, which may be 0
    assert all(getattr(found, name) > 0 for name in positive)
    assert all(getattr(found, name) >= 0 for name in NAMES)
    raw = calibrate(replace(shape, nbits="float16"))
    assert {name for name in NAMES if getattr(raw, name)} <= {"store", "scan", "answer"}


@pytest.mark.parametrize("tokens", [1.0, 3000.0])
def test_any_length_is_measured(tokens):
    """One document, of one token or of thousands, is a shape too."""
    shape = Shape(dim=4, n_q=2, n_docs=1, tokens=tokens, n_centroids=16, nbits=1, text_bytes=0)
    assert calibrate(shape).rank > 0


def test_the_same_sample_gives_the_same_plan(encoder):
    """Nothing but times differs when a plan is made again."""
    made = [plan(10_000, sample=texts(20), encoder=encoder, calibration=POWERS) for _ in range(2)]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected one of the two"),
        ({"tokens": 3, "sample": ["a"]}, "expected one of the two"),
        ({"tokens": 0.5}, "at least 1"),
        ({"tokens": float("nan")}, "at least 1"),
        ({"tokens": 3, "n_docs": 0}, "n_docs"),
        ({"tokens": 3, "nbits": 3}, "nbits"),
        ({"tokens": 3, "k": 0}, "k must"),
        ({"sample": ["a"]}, "expected an encoder"),
    ],
)
def test_bad_input_is_refused(options, message):
    """Contradictions and impossible numbers are typed errors."""
    with pytest.raises(InvalidInput, match=message):
        plan(**{"n_docs": 5, "dim": 4, "calibration": NONE, **options})


def test_an_empty_sample_is_refused(encoder):
    """There is nothing to count."""
    with pytest.raises(InvalidInput, match="at least one document"):
        plan(5, sample=[], encoder=encoder, calibration=NONE)


def test_parts_cover_every_file(tmp_path):
    """Whatever files an index has, deleted rows included, each belongs to one part."""
    index = Index.create(tmp_path / "i", dim=16, train_at=1)
    index.add([{"id": str(i)} for i in range(40)], vectors=topical(np.random.default_rng(0), 40, 16))
    index.delete(["3"])
    held = index.info()["bytes_of"]
    assert "deleted" in held
    assert sum(parts_of(held).values()) == sum(held.values())
    assert len({role for roles in PARTS.values() for role in roles}) == sum(map(len, PARTS.values()))


def test_the_verb_prints_a_table(tmp_path):
    """`plan` shows every number of bits and the stages, or the same as JSON, from a length or from files."""
    (tmp_path / "a.txt").write_text("strptime turns a text into a date")
    run = CliRunner().invoke
    result = run(main, ["plan", "5000", "--tokens", "40", "--dim", "16"])
    assert result.exit_code == 0, result.output
    first, _, header, *_ = result.output.splitlines()
    assert first.startswith("5,000 documents of 40.0 tokens: 200,000 embeddings of dim 16; one vector a document")
    assert header.split() == ["nbits", "1", "2", "4", "8", "float16", "float32"]
    assert "at 4 bits, 4,096 centroids:" in result.output
    assert all(f"\n{row} " in result.output for row in ("residuals", "total", "build", "query", "FLOPs a query"))
    result = run(main, ["plan", "50", str(tmp_path), "--model", "tests/models/tiny", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["n_docs"] == 50
    assert found["bytes_of"]["4"]["vectors"] == found["n_tokens"] * 16 * 2 + 128


@pytest.mark.parametrize(
    "words", [["5"], ["5", ".", "--tokens", "3"], ["5", ".", "--dim", "4"], ["0", "--tokens", "3"]]
)
def test_the_verb_wants_one_length(words):
    """No length, two of them, or a sample without a model are wrong usage."""
    assert CliRunner().invoke(main, ["plan", *words]).exit_code == 2
