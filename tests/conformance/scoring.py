"""Cases of MaxSim and of the one total order. S is MaxSim, (+) is concatenation of rows."""

import math

import numpy as np
from hypothesis import strategies as st

from .goldens import arrays_of, names, tolerance_of
from .oracle import definition
from .pairs import Pair, g, unit
from .registry import case

NEGATIVE = Pair(
    np.array([[1, 0], [0.5, 0.5]], np.float32),
    np.array([[-1, 0], [-0.5, -0.25]], np.float32),
    np.array([[-0.75, -1]], np.float32),
    0,
    True,
)
SCORES = st.lists(st.integers(-3, 3), max_size=30)


@case("1", "maxsim", twice=True)
def document_tokens_in_any_order(impl, pair):
    """S(q, pi d) = S(q, d)."""
    d = np.concatenate([pair.d, pair.more])
    pair.same(impl.maxsim(pair.q, pair.rng.permutation(d)), impl.maxsim(pair.q, d))


@case("2", "maxsim", twice=True)
def query_tokens_in_any_order(impl, pair):
    """S(pi q, d) = S(q, d)."""
    pair.same(impl.maxsim(pair.rng.permutation(pair.q), pair.d), impl.maxsim(pair.q, pair.d))


@case("3", "maxsim", twice=True)
def repeated_document_tokens_add_nothing(impl, pair):
    """S(q, d (+) d[J]) = S(q, d)."""
    again = pair.d[pair.rng.integers(0, len(pair.d), 3)]
    pair.same(impl.maxsim(pair.q, np.concatenate([pair.d, again])), impl.maxsim(pair.q, pair.d))


@case("4", "maxsim", twice=True)
def more_document_tokens_never_lower_the_score(impl, pair):
    """S(q, d (+) t) >= S(q, d)."""
    longer = impl.maxsim(pair.q, np.concatenate([pair.d, pair.more]))
    assert longer >= impl.maxsim(pair.q, pair.d) - pair.tolerance()


@case("5", "maxsim", twice=True)
def a_union_takes_the_larger_of_each_query_token(impl, pair):
    """S(q, d1 (+) d2) = sum over i of max(S(q_i, d1), S(q_i, d2)). Documents may therefore be scored in chunks."""
    parts = [max(impl.maxsim(q[None], pair.d), impl.maxsim(q[None], pair.more)) for q in pair.q]
    pair.same(impl.maxsim(pair.q, np.concatenate([pair.d, pair.more])), math.fsum(parts))


@case("6", "maxsim", twice=True)
def queries_add_up(impl, pair):
    """S(q1 (+) q2, d) = S(q1, d) + S(q2, d)."""
    both = impl.maxsim(np.concatenate([pair.q, pair.more]), pair.d)
    pair.same(both, impl.maxsim(pair.q, pair.d) + impl.maxsim(pair.more, pair.d), factor=2 + 2 * len(pair.more))


@case("7", "maxsim", twice=True)
def scores_are_bounded_by_norms(impl, pair):
    """|S| <= (sum over i of |q_i|) max over j of |d_j|."""
    q, d = pair.q.astype(np.float64), pair.d.astype(np.float64)
    bound = np.linalg.norm(q, axis=1).sum() * np.linalg.norm(d, axis=1).max()
    assert abs(impl.maxsim(pair.q, pair.d)) <= bound * (1 + 1e-12) + pair.tolerance()


@case("8", "maxsim", n_q=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def a_document_that_holds_the_query_scores_its_length(impl, n_q, seed):
    """S(q, d) = n_q for unit rows with every q_i in d, exactly for signed basis vectors."""
    rng = np.random.default_rng(seed)
    basis = np.eye(6, dtype=np.float32)[rng.integers(0, 6, n_q)] * rng.choice([-1, 1], (n_q, 1)).astype(np.float32)
    assert impl.maxsim(basis, rng.permutation(basis)) == n_q
    q = unit(rng, n_q, 32)
    d = rng.permutation(np.concatenate([q, unit(rng, 3, 32)]))
    Pair(q, d, d, seed, False).same(impl.maxsim(q, d), n_q, factor=4)


@case(
    "9", "maxsim_masked", twice=True, examples=[{"pair": NEGATIVE, "scale": 2**16}], scale=st.sampled_from([1, 2**14])
)
def masked_rows_are_not_there(impl, pair, scale):
    """S(q, pad(d), mask) = S(q, d), also if all similarities are negative and large."""
    q = np.float32(scale) * pair.q  # a power of two: exact, and below any sentinel
    d, mask = padded(pair, pair.more)
    pair.same(impl.maxsim_masked(q, d, mask), scale * definition.maxsim(pair.q, pair.d), factor=2 * scale)


@case("9", "maxsim_masked", twice=True, examples=[{"pair": NEGATIVE}])
def negative_similarities_survive_a_mask(impl, pair):
    """If every similarity of the document is negative, so is its score: a masked row does not count as 0."""
    q, d = np.abs(pair.q), -np.abs(pair.d)
    rows, mask = padded(Pair(q, d, pair.more, pair.seed, pair.exact), np.zeros_like(pair.more))
    pair.same(impl.maxsim_masked(q, rows, mask), definition.maxsim(q, d))


@case("9", "maxsim_masked", twice=True, filler=st.sampled_from([np.nan, np.inf, -np.inf, 1e30]))
def padding_may_hold_anything(impl, pair, filler):
    """NaN, infinity and huge numbers in masked rows change no score."""
    d, mask = padded(pair, np.full_like(pair.more, filler))
    pair.same(impl.maxsim_masked(pair.q, d, mask), definition.maxsim(pair.q, pair.d))


def padded(pair, filler):
    """The document's rows among filler rows, and which are its own."""
    rows = np.concatenate([pair.d, filler])
    order = pair.rng.permutation(len(rows))
    return rows[order], (order < len(pair.d)).tolist()


@case("10", "maxsim", twice=True, power=st.integers(-20, 20))
def powers_of_two_scale_exactly(impl, pair, power):
    """S(2^k q, d) = 2^k S(q, d), bit for bit."""
    assert impl.maxsim(np.ldexp(pair.q, power), pair.d) == np.ldexp(np.float64(impl.maxsim(pair.q, pair.d)), power)


@case("11", "maxsim", twice=True)
def rotating_both_sides_changes_nothing(impl, pair):
    """S(q R, d R) = S(q, d): exactly for signed permutations of the columns, up to rounding for rotations."""
    dim = pair.q.shape[1]
    if pair.exact:
        order, signs = pair.rng.permutation(dim), pair.rng.choice([-1, 1], dim).astype(np.float32)
        rotated = impl.maxsim(pair.q[:, order] * signs, pair.d[:, order] * signs)
    else:
        r, _ = np.linalg.qr(pair.rng.standard_normal((dim, dim)))
        rotated = impl.maxsim((pair.q @ r).astype(np.float32), (pair.d @ r).astype(np.float32))
    pair.same(rotated, impl.maxsim(pair.q, pair.d), factor=6)


@case("12", "scores", twice=True)
def a_document_scores_the_same_in_any_batch(impl, pair):
    """The other documents of a batch, their order and their lengths change no score."""
    documents = [pair.d, pair.more, pair.d[:1], np.concatenate([pair.more, pair.d])]
    alone = [impl.scores(pair.q, [d])[0] for d in documents]
    order = pair.rng.permutation(len(documents))
    pair.same(impl.scores(pair.q, documents), alone)
    pair.same(impl.scores(pair.q, [documents[i] for i in order]), np.array(alone)[order])
    pair.same(
        impl.scores(-np.abs(pair.q), [np.abs(d) for d in documents])[2:3],
        [definition.maxsim(-np.abs(pair.q), np.abs(pair.d[:1]))],
    )


@case("13", "maxsim", twice=True, step=st.sampled_from([2.0**-12, 2.0**-6, 0.25]))
def moving_tokens_moves_the_score_no_further(impl, pair, step):
    """|S(q, d) - S(q, d')| <= (sum over i of |q_i|) max over j of |d_j - d'_j|."""
    moved = pair.d + (pair.rng.integers(-1, 2, pair.d.shape) * step).astype(np.float32)
    farthest = np.linalg.norm(moved.astype(np.float64) - pair.d, axis=1).max()
    reach = np.linalg.norm(pair.q.astype(np.float64), axis=1).sum() * farthest
    moved_by = abs(impl.maxsim(pair.q, pair.d) - impl.maxsim(pair.q, moved))
    assert moved_by <= reach * (1 + 1e-12) + 2 * pair.tolerance()


@case("14", "maxsim", twice=True, examples=[{"pair": NEGATIVE}])
def the_score_is_the_definition(impl, pair):
    """S(q, d) = sum over i of max over j of q_i . d_j, compared with float64 loops."""
    pair.same(impl.maxsim(pair.q, pair.d), definition.maxsim(pair.q, pair.d), factor=1)


@case("14", "maxsim", seed=st.integers(0, 2**32 - 1), examples=[{"seed": 0}])
def a_score_of_usual_size_is_the_definition(impl, seed):
    """A query of 32 tokens and dim 128 on the grid has the exact score: float32 accumulation is enough."""
    rng = np.random.default_rng(seed)
    q, d = ((rng.integers(-8, 9, (n, 128)) / 8).astype(np.float32) for n in (32, 50))
    expected = (q.astype(np.float64) @ d.T.astype(np.float64)).max(axis=1).sum()  # exact as well
    assert impl.maxsim(q, d) == expected


@case("14", "maxsim")
def scores_are_those_of_three_engines(impl):
    """Scores are those of PyLate, colbert-ai and Sentence-Transformers (golden/scoring), negative ones included."""
    for name in names("scoring"):
        golden = arrays_of("scoring", name)
        for key in (key for key in golden if key.startswith("score_")):
            pair = key.removeprefix("score_")
            score = impl.maxsim(golden[f"q_{pair}"], golden[f"d_{pair}"])
            assert abs(score - float(golden[key])) <= 2 * tolerance_of("scoring", name, key), (name, pair)


@case("14", "scores")
def real_text_is_ranked_as_colbert_ai_ranks_it(impl):
    """With colbert-ai's vectors of 40 docstrings and 12 questions: its scores, and its first ten up to equal scores."""
    golden = arrays_of("rankings", "docstrings")
    documents = np.split(golden["vectors"], np.cumsum(golden["lengths"])[:-1])
    bound = tolerance_of("rankings", "docstrings", "scores")
    for q, scores, order in zip(golden["query_vectors"], golden["scores"], golden["order"], strict=True):
        own_scores = np.asarray(impl.scores(q, documents), np.float64)
        assert np.abs(own_scores - scores).max() <= bound
        best = own_scores[np.argsort(-own_scores, kind="stable")[:10]]
        assert np.abs(best - own_scores[order[:10]]).max() <= 2 * bound


@case("15", "maxsim", twice=True)
def zero_query_rows_add_nothing(impl, pair):
    """A query row of zeros adds 0 to the score, not a sentinel."""
    q = np.concatenate([pair.q, np.zeros_like(pair.q[:2])])
    pair.same(impl.maxsim(q, pair.d), impl.maxsim(pair.q, pair.d))


@case("15", "maxsim", equation="2.5", side=st.sampled_from(["query", "document"]))
def an_empty_query_or_document_has_no_score(impl, side):
    """An empty query or document is an error; its score is neither 0 nor minus infinity."""
    rows = {"query": np.ones((2, 3), np.float32), "document": np.ones((2, 3), np.float32)}
    rows[side] = rows[side][:0]
    refused(impl.maxsim, rows["query"], rows["document"])


@case(
    "16",
    "maxsim",
    equation="2.5",
    side=st.sampled_from([0, 1]),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    row=st.integers(0, 2),
)
def nan_and_infinity_are_refused(impl, side, value, row):
    """NaN or infinity in a query or document is an error."""
    both = [np.ones((3, 4), np.float32), np.ones((3, 4), np.float32)]
    both[side][row, 3 - row] = value
    refused(impl.maxsim, *both)


def refused(function, *arguments):
    """Assert that a call raises instead of answering."""
    try:
        answer = function(*arguments)
    except Exception:  # noqa: BLE001 - the implementation chooses the type of the error
        return
    raise AssertionError(f"answered {answer!r}, an error was expected")


# ---- explanation and pooling


@case("54", "matches", "maxsim", twice=True)
def matches_add_up_to_the_score(impl, pair):
    """Each query token has its first best document row and the similarity. The similarities add up to S(q, d)."""
    d = np.concatenate([pair.d, pair.more, pair.d])  # every row of d occurs twice
    matches = impl.matches(pair.q, d)
    exact = pair.q.astype(np.float64) @ d.T.astype(np.float64)  # [n_q, n_d]
    assert len(matches) == len(pair.q)
    for q, (row, similarity) in zip(exact, matches, strict=True):
        pair.same(similarity, q.max())
        pair.same(q[int(row)], q.max())
    if pair.exact:
        assert [int(row) for row, _ in matches] == exact.argmax(axis=1).tolist()
    pair.same(math.fsum(similarity for _, similarity in matches), impl.maxsim(pair.q, d))


@case("55", "pool", n=st.integers(1, 14), factor=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def pooled_rows_are_those_of_the_definition(impl, n, factor, seed):
    """ceil(n_d / factor) rows by Ward's method, in the order of their first tokens, with the mean norm of these."""
    d = unit(np.random.default_rng(seed), n, 5) * np.float32([1, 2, 0.5, 1, 3] * 3)[:n, None]
    pooled, expected = np.asarray(impl.pool(d, factor), np.float64), np.array(definition.pool(d, factor))
    assert pooled.shape == (-(-n // factor), 5)
    assert np.abs(pooled - expected).max() <= 8 * g(n + 8) * 3


# ---- the one total order


@case("17", "top_k", scores=SCORES, k=st.integers(1, 40), seed=st.integers(0, 99))
def top_k_is_the_head_of_a_full_sort(impl, scores, k, seed):
    """The order is score descending, then position ascending. If k is larger than n, all n come back."""
    positions = (100 + np.random.default_rng(seed).permutation(len(scores))).tolist()
    array = np.array(scores, np.float64)
    assert plain(impl.top_k(array, k)) == definition.top_k(scores, k)
    assert plain(impl.top_k(array, k, np.array(positions, np.int64))) == definition.top_k(scores, k, positions)


@case("17", "top_k", k=st.sampled_from([0, -1]))
def a_k_below_one_is_refused(impl, k):
    """A k below 1 is an error."""
    refused(impl.top_k, np.zeros(3), k)


@case("17", "top_k", n=st.integers(1, 300), k=st.integers(1, 30))
def equal_scores_go_by_position(impl, n, k):
    """If all scores are equal, the answer is the first k positions."""
    assert plain(impl.top_k(np.ones(n), k)) == list(range(min(k, n)))


@case("18", "top_k", scores=SCORES, k=st.integers(1, 30))
def a_shorter_answer_begins_the_longer(impl, scores, k):
    """top_k(k) is a prefix of top_k(k + 1)."""
    array = np.array(scores, np.float64)
    assert plain(impl.top_k(array, k)) == plain(impl.top_k(array, k + 1))[:k]


@case("19", "top_k", a=SCORES, b=SCORES, k=st.integers(1, 20))
def shards_merge(impl, a, b, k):
    """The top k of the top k of two shards is the top k of both together."""
    whole = np.array(a + b, np.float64)
    chosen = np.array(plain(impl.top_k(np.array(b, np.float64), k)), np.int64) + len(a)
    chosen = np.concatenate([chosen, np.array(plain(impl.top_k(np.array(a, np.float64), k)), np.int64)])
    merged = [int(chosen[i]) for i in impl.top_k(whole[chosen], k, chosen)]
    assert merged == plain(impl.top_k(whole, k))


@case("56", "best_of_groups", heavy=True, scores=SCORES, names=st.integers(0, 2**32 - 1), k=st.integers(1, 8))
def a_group_is_its_best_document(impl, scores, names, k):
    """The answer is the first document of each group in the one total order, cut after k groups."""
    rng = np.random.default_rng(names)
    groups = [f"g{i}" for i in rng.integers(0, 2 + len(scores) // 3, len(scores))]
    assert plain(impl.best_of_groups(scores, groups, k)) == definition.best_of_groups(scores, groups, k)


def plain(indices):
    """A list of Python integers."""
    return [int(i) for i in indices]
