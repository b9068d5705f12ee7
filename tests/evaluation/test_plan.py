"""Plans: bytes against indexes that are built, FLOPs and times against counting by hand."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from strategies import topical

from refcolbert import Index
from refcolbert.cli import main
from refcolbert.engine.candidates import ROUND
from refcolbert.engine.kmeans import centroid_count
from refcolbert.errors import InvalidInput
from refcolbert.evaluation.plan import ALL_BITS, DISTINCT, IN_REACH, NEAREST, PARTS, Rates, parts_of, plan

RATES = Rates(encode=1000.0, search=1e9)
EXACT = {"codes", "residuals", "vectors", "scales", "spreads", "offsets", "words"}
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
    estimate = plan(300, sample=documents, encoder=encoder, rates=RATES, **options)
    assert estimate.n_tokens == index.info()["tokens"]
    assert estimate.n_centroids == index.info()["centroids"]
    sizes, measured = estimate.bytes_of[str(nbits)], parts_of(index.info()["bytes_of"])
    assert set(sizes) == set(measured)
    assert sum(measured.values()) == index.info()["bytes"]
    for part in EXACT & set(measured):
        assert sizes[part] == measured[part], part
    assert sizes["texts"] == pytest.approx(measured["texts"], rel=0.15)  # pages of a small file
    if "centroids" in sizes:
        assert sizes["centroids"] == pytest.approx(measured["centroids"], rel=0.02)


def test_a_sample_stands_for_more(tmp_path, encoder):
    """An index of three times as many documents is predicted to 3 % when the sample is a third of them."""
    documents = texts(900)
    index = Index.build(tmp_path / "i", documents, encoder, nbits=8, train_at=500)
    estimate = plan(900, sample=documents[::3], encoder=encoder, nbits=8, train_at=500, rates=RATES)
    measured = parts_of(index.info()["bytes_of"])
    assert estimate.bytes_of["8"]["residuals"] == pytest.approx(measured["residuals"], rel=0.03)
    lengths = index.vectors([str(i) for i in range(0, 900, 3)]).lengths
    assert estimate.standard_error == pytest.approx(lengths.std() / lengths.mean() / 300**0.5)


def test_words_grow_as_in_the_sample(tmp_path, encoder):
    """A sample of a third tells the bytes of words to 5 %, although new words become rarer; None gives none."""
    rng = np.random.default_rng(0)
    documents = [" ".join(f"w{n}" for n in rng.zipf(1.5, 20) % 100_000) for _ in range(1500)]
    index = Index.build(tmp_path / "i", documents, encoder, words="porter")
    measured = parts_of(index.info()["bytes_of"])["words"]
    options = {"sample": documents[:500], "encoder": encoder, "rates": RATES}
    assert plan(1500, **options, words="porter").bytes_of["4"]["words"] == pytest.approx(measured, rel=0.05)
    assert "words" not in plan(1500, **options, words=None).bytes_of["4"]


def test_words_without_a_sample_follow_from_the_size_of_texts():
    """Entries are in proportion to it and terms to its square root; ready-made vectors have no words unless asked."""
    small, large = (plan(n, 100, dim=16, words="porter", text_bytes=1000, rates=RATES) for n in (1000, 4000))
    assert small.bytes_of["4"]["words"] == 90_000 * 3 + 1000 * 4 + 9000 * (16 + 6.2) + 16 + 6 * 128
    assert large.bytes_of["4"]["words"] == 360_000 * 3 + 4000 * 4 + 18000 * (16 + 6.2) + 16 + 6 * 128
    assert "words" not in plan(1000, 100, dim=16, rates=RATES).bytes_of["4"]
    assert plan(1, 1, dim=16, words="porter", text_bytes=0, rates=RATES).bytes_of["4"]["words"] == 20 + 6 * 128


def test_few_tokens_stay_raw():
    """The number of bits makes no difference when there are fewer tokens than a codec is fitted to."""
    estimate = plan(100, 20, dim=16, rates=RATES)
    assert estimate.n_centroids is None
    assert all(estimate.bytes_of[bits] == estimate.bytes_of["float16"] for bits in ("1", "2", "4", "8"))
    assert estimate.bytes_of["float32"]["vectors"] > estimate.bytes_of["float16"]["vectors"]


def test_large_counts_by_hand():
    """A million documents of 100 tokens take the bytes of the format's table, times their number."""
    estimate = plan(1_000_000, 100, dim=128, text_bytes=400, rates=RATES)
    n = 100_000_000
    assert (estimate.n_tokens, estimate.n_centroids) == (n, centroid_count(n))
    assert estimate.one_vector_bytes == 1_000_000 * 512
    header = 128  # of an .npy file
    sizes = estimate.bytes_of["2"]
    assert sizes["residuals"] == n * 128 * 2 // 8 + header
    assert sizes["codes"] == sizes["scales"] == 2 * n + header
    assert sizes["spreads"] == n + header
    assert sizes["offsets"] == 8 * 2_000_001 + 2 * header
    assert sizes["lists"] == round(DISTINCT * n) * 4 + 65536 * 12 + 8 + 3 * header
    assert sizes["centroids"] == 65536 * 512 + 256 * 512 + 8 * 257 + 512 + 4 * header
    assert 400 < sizes["texts"] / 1e6 < 600


def test_flops_are_those_of_the_products(encoder):
    """FLOPs are two for each multiplication of encoder, k-means, centroids and MaxSim."""
    documents = texts(20)
    estimate = plan(10_000, sample=documents, encoder=encoder, rates=RATES)
    layers, hidden, inner, dim, n_q = 2, 32, 64, 16, 32

    def encode(n):
        by_token = layers * (4 * hidden**2 + 2 * hidden * inner) + hidden * dim
        return 2 * (n * by_token + n * n * layers * 2 * hidden)

    lengths = [len(tokens.ids) for tokens in encoder.tokenizer.documents(documents)]
    assert estimate.build_flops["encode"] == 10_000 / 20 * sum(map(encode, lengths))
    fitted = min(64 * estimate.n_centroids, estimate.n_tokens)
    passes = 5 * estimate.n_centroids**0.5
    assert estimate.build_flops["compress"] == pytest.approx(2 * dim * passes * (estimate.n_tokens + fitted))
    tokens = estimate.tokens_per_document
    assert estimate.flops == {
        "encode": encode(n_q),
        "centroids": 2 * n_q * dim * estimate.n_centroids,
        "refine": round(2 * n_q * dim * (ROUND + IN_REACH * (1024 - ROUND)) * tokens * NEAREST),
        "rank": round(2 * n_q * dim * 32 * tokens),
        "scan": 2 * n_q * dim * estimate.n_tokens,
    }


@pytest.mark.parametrize(("n_docs", "options"), [(10_000, {"nbits": "float16"}), (1_000, {"train_at": 1}), (10, {})])
def test_few_or_raw_documents_are_scanned(n_docs, options):
    """Without pruning a search ranks every document."""
    estimate = plan(n_docs, 100, dim=16, rates=RATES, **options)
    assert estimate.flops["rank"] == estimate.flops["scan"] == 2 * 32 * 16 * 100 * n_docs
    assert "refine" not in estimate.flops
    assert ("centroids" in estimate.flops) == (estimate.n_centroids is not None)


def test_times_are_counts_over_rates(encoder):
    """Encoding follows from tokens and the first rate, compression and search from FLOPs and the second."""
    estimate = plan(10_000, 100, encoder=encoder, rates=RATES)
    flops = estimate.flops
    searched = flops["centroids"] + flops["refine"] + flops["rank"]
    assert estimate.build == pytest.approx(
        {"encode": 1.1 * 1_000_000 / 1e3, "compress": estimate.build_flops["compress"] / 1e9}
    )
    assert estimate.query == pytest.approx({"encode": 1e3 * 32 / 1e3, "search": 1e3 * searched / 1e9})


def test_ready_made_vectors_are_not_encoded():
    """With a dimension in place of a model, nothing is counted or measured of encoding."""
    estimate = plan(1_000, 20, dim=16)
    assert estimate.rates.encode is None
    assert not {"encode"} & (
        estimate.build.keys() | estimate.query.keys() | estimate.build_flops.keys() | estimate.flops.keys()
    )


def test_memory_grows_with_what_is_held():
    """A search maps all files; a build holds a sample of the vectors and counts of all, and raw vectors on disk."""
    estimate = plan(1_000_000, 100, dim=128, rates=RATES)
    assert estimate.memory["search"] == sum(estimate.bytes_of["4"].values())
    assert estimate.memory["build"] == 2.5 * 512 * (1 << 20) + 100 * 1_000_000 + 6 * 100_000_000
    assert estimate.memory["building"] == 256 * 100_000_000 + estimate.bytes_of["4"]["texts"]
    assert estimate.memory["query"] < 2**30


@pytest.mark.parametrize(
    ("n_docs", "tokens", "nbits"),
    [(1, 1, 1), (1, 3000, 4), (50, 20, 4), (5_000, 30, 4), (5_000, 30, "float32")],
)
def test_every_shape_is_measured(encoder, n_docs, tokens, nbits):
    """Both rates are positive and finite for few and many documents, short and long ones, raw and compressed."""
    rates = plan(n_docs, tokens, encoder=encoder, nbits=nbits, train_at=1).rates
    assert 0 < rates.encode < float("inf")
    assert 0 < rates.search < float("inf")


def test_the_same_sample_gives_the_same_plan(encoder):
    """A plan is a function of its arguments once the rates are given."""
    estimates = [plan(10_000, sample=texts(20), encoder=encoder, rates=RATES) for _ in range(2)]
    assert estimates[0] == estimates[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "pass one of the two"),
        ({"tokens": 3, "sample": ["a"]}, "pass one of the two"),
        ({"tokens": 0.5}, "at least 1"),
        ({"tokens": float("nan")}, "at least 1"),
        ({"tokens": 3, "n_docs": 0}, "n_docs"),
        ({"tokens": 3, "nbits": 3}, "nbits"),
        ({"tokens": 3, "k": 0}, "k must"),
        ({"sample": ["a"]}, "needs an encoder"),
    ],
)
def test_bad_input_is_refused(options, message):
    """Contradictions and impossible numbers are typed errors."""
    with pytest.raises(InvalidInput, match=message):
        plan(**{"n_docs": 5, "dim": 4, "rates": RATES, **options})


def test_an_empty_sample_is_refused(encoder):
    """There is nothing to count."""
    with pytest.raises(InvalidInput, match="at least one document"):
        plan(5, sample=[], encoder=encoder, rates=RATES)


def test_parts_cover_every_file(tmp_path):
    """Each file of an index belongs to one part, deleted rows included."""
    index = Index.create(tmp_path / "i", dim=16, train_at=1, words="porter")
    index.add(
        [{"id": str(i), "text": f"text {i}"} for i in range(40)], vectors=topical(np.random.default_rng(0), 40, 16)
    )
    index.delete(["3"])
    sizes = index.info()["bytes_of"]
    assert "deleted" in sizes
    assert sum(parts_of(sizes).values()) == sum(sizes.values())
    assert len({role for roles in PARTS.values() for role in roles}) == sum(map(len, PARTS.values()))


def test_the_command_prints_a_table(tmp_path):
    """`plan` prints every number of bits and the stages, or the same as JSON, from a length or from files."""
    (tmp_path / "a.txt").write_text("strptime turns a text into a date")
    run = CliRunner().invoke
    result = run(main, ["plan", "5000", "--tokens", "40", "--dim", "16"])
    assert result.exit_code == 0, result.output
    first, _, header, *_ = result.output.splitlines()
    assert first.startswith("5,000 documents of 40.0 tokens: 200,000 embeddings of dim 16; one vector per document")
    assert header.split() == ["nbits", "1", "2", "4", "8", "float16", "float32"]
    assert "at 4 bits, 4,096 centroids; times within a factor of about 2:" in result.output
    rows = ("residuals", "total", "build", "query", "FLOPs of a build", "FLOPs of a query", "memory")
    assert all(f"\n{row} " in result.output for row in rows)
    result = run(main, ["plan", "50", str(tmp_path), "--model", "tests/models/tiny", "--json"])
    assert result.exit_code == 0, result.output
    estimate = json.loads(result.output)
    assert estimate["n_docs"] == 50
    assert estimate["bytes_of"]["4"]["vectors"] == estimate["n_tokens"] * 16 * 2 + 128


@pytest.mark.parametrize(
    "words", [["5"], ["5", ".", "--tokens", "3"], ["5", ".", "--dim", "4"], ["0", "--tokens", "3"]]
)
def test_the_command_needs_one_length(words):
    """No length, two lengths, or a sample without a model are wrong usage."""
    assert CliRunner().invoke(main, ["plan", *words]).exit_code == 2
