"""Faults in scores, orders and losses."""

import numpy as np

from ..oracle import definition
from .faults import fault


def similarities(q, d):
    """[n_q, n_d] float64 similarities of checked input."""
    definition.check(q)
    definition.check(d, len(q[0]))
    return np.asarray(q, np.float64) @ np.asarray(d, np.float64).T


@fault("1", "maxsim")
def last_document_token_lost(q, d):
    """An end offset is one too small."""
    return similarities(q, d)[:, : max(len(d) - 1, 1)].max(axis=1).sum()


@fault("2", "maxsim")
def query_tokens_weighted_by_place(q, d):
    """Earlier query tokens count more."""
    return (similarities(q, d).max(axis=1) / (1 + np.arange(len(q)))).sum()


@fault("3", "maxsim")
def two_best_summed(q, d):
    """The two best document tokens are added instead of the best one."""
    return np.sort(similarities(q, d), axis=1)[:, -2:].sum()


@fault("4", "maxsim")
def mean_over_document_tokens(q, d):
    """Mean instead of maximum."""
    return similarities(q, d).mean(axis=1).sum()


@fault("5", "maxsim")
def chunks_summed(q, d):
    """The maxima of chunks of two rows are added up."""
    products = similarities(q, d)
    return sum(products[:, i : i + 2].max(axis=1).sum() for i in range(0, len(d), 2))


@fault("6", "maxsim")
def mean_over_query_tokens(q, d):
    """The score is divided by the number of query tokens."""
    return similarities(q, d).max(axis=1).mean()


@fault("7", "maxsim")
def max_over_the_wrong_axis(q, d):
    """Sum over j of max over i."""
    return similarities(q, d).max(axis=0).sum()


@fault("8", "maxsim")
def squared_distance(q, d):
    """-|q_i - d_j|^2 instead of the product."""
    similarities(q, d)
    gaps = np.asarray(q, np.float64)[:, None] - np.asarray(d, np.float64)[None]
    return -np.square(gaps).sum(axis=2).min(axis=1).sum()


@fault("9", "maxsim_masked")
def mask_by_multiplication(q, d, mask):
    """Masked similarities become 0, which is larger than every negative one."""
    clean = np.where(np.asarray(mask)[:, None], d, 0)
    return (similarities(q, clean) * np.asarray(mask)).max(axis=1).sum()


@fault("9", "maxsim_masked")
def sentinel_for_masked_rows(q, d, mask):
    """Masked similarities become -9999, which is larger than very negative ones."""
    clean = np.where(np.asarray(mask)[:, None], d, 0)
    return np.where(mask, similarities(q, clean), -9999).max(axis=1).sum()


@fault("9", "maxsim_masked")
def mask_after_the_product(q, d, mask):
    """NaN in a masked row times 0 is NaN."""
    products = np.asarray(q, np.float64) @ np.asarray(d, np.float64).T
    return (products + np.where(mask, 0, -1e6)).max(axis=1).sum()


@fault("10", "maxsim")
def query_normalized_inside(q, d):
    """Cosines instead of inner products."""
    norms = np.linalg.norm(np.asarray(q, np.float64), axis=1)
    return (similarities(q, d).max(axis=1) / np.where(norms > 0, norms, 1)).sum()


@fault("11", "maxsim")
def odd_columns_dropped(q, d):
    """A SIMD loop without its tail: columns beyond a multiple of four are ignored."""
    whole = np.shape(q)[1] // 4 * 4
    return similarities(q, d)[:0].sum() + (np.asarray(q)[:, :whole] @ np.asarray(d)[:, :whole].T).max(axis=1).sum()


@fault("12", "scores")
def documents_padded_with_zeros(q, documents):
    """Shorter documents are padded with zeros that count as tokens."""
    longest = max(len(d) for d in documents)
    return [similarities(q, np.pad(d, ((0, longest - len(d)), (0, 0)))).max(axis=1).sum() for d in documents]


@fault("12", "scores")
def offsets_one_off(q, documents):
    """Each document begins one row early in the concatenation."""
    rows, ends = np.concatenate(documents), np.cumsum([len(d) for d in documents])
    starts = np.maximum(ends - [len(d) for d in documents] - 1, 0)
    return [similarities(q, rows[a:b]).max(axis=1).sum() for a, b in zip(starts, ends, strict=True)]


@fault("13", "maxsim")
def similarities_in_steps(q, d):
    """Similarities rounded to steps of 1/8, as a coarse table would."""
    return (np.rint(similarities(q, d) * 8) / 8).max(axis=1).sum()


@fault("14", "maxsim")
def float16_accumulation(q, d):
    """Half precision throughout."""
    similarities(q, d)
    return float((np.asarray(q, np.float16) @ np.asarray(d, np.float16).T).max(axis=1).sum(dtype=np.float16))


@fault("14", "maxsim")
def negative_clipped(q, d):
    """A running maximum that starts at 0."""
    return np.maximum(similarities(q, d).max(axis=1), 0).sum()


@fault("15", "maxsim")
def zero_rows_get_a_sentinel(q, d):
    """A query row of zeros scores -1e4."""
    return np.where(np.any(q, axis=1), similarities(q, d).max(axis=1), -1e4).sum()


@fault("15", "maxsim")
def empty_scores_nothing(q, d):
    """A query or document without rows scores 0."""
    return similarities(q, d).max(axis=1).sum() if len(q) and len(d) else 0.0


@fault("16", "maxsim")
def nan_goes_through(q, d):
    """NaN and infinity are not refused."""
    return (
        float((np.asarray(q, np.float64) @ np.asarray(d, np.float64).T).max(axis=1).sum()) if len(q) * len(d) else 1 / 0
    )


@fault("17", "top_k")
def ties_by_argpartition(scores, k, positions=None):
    """Equal scores at the border are cut in the arbitrary order of argpartition."""
    if k < 1:
        raise ValueError("k")
    n = min(k, len(scores))
    chosen = np.argpartition(-np.asarray(scores), n - 1)[:n] if n else np.empty(0, int)
    return chosen[np.argsort(-np.asarray(scores)[chosen], kind="stable")]


@fault("17", "top_k")
def k_of_zero_answered(scores, k, positions=None):
    """k = 0 gives an empty answer instead of an error."""
    return definition.top_k(scores, k, positions) if k > 0 else []


@fault("17", "top_k")
def ties_by_index_always(scores, k, positions=None):
    """Positions are ignored."""
    return definition.top_k(scores, k)


@fault("18", "top_k")
def ties_turn_with_k(scores, k, positions=None):
    """For an even k the later of equal scores comes first."""
    places = list(range(len(scores))) if positions is None else list(positions)
    return definition.top_k(scores, k, places if k % 2 else [-p for p in places])


@fault("19", "top_k")
def merge_forgets_positions(scores, k, positions=None):
    """If positions are given, the later of equal scores comes first."""
    return definition.top_k(scores, k, None if positions is None else [-p for p in positions])


# ---- losses


@fault("47", "kl_divergence")
def divergence_the_wrong_way(scores, teacher):
    """KL(student, teacher)."""
    return definition.kl_divergence(teacher, scores)


@fault("47", "n_way")
def positive_comes_last(scores):
    """The last score is taken as the positive one."""
    return definition.n_way(scores[::-1])


@fault("47", "pairwise_softmax")
def exp_overflows(positive, negative):
    """exp without subtracting the largest score first."""
    with np.errstate(over="ignore", invalid="ignore"):
        powers = np.exp([positive, negative])
        return -np.log(powers[0] / powers.sum())


@fault("47", "margin_mse")
def margins_summed(scores, teacher):
    """Sum instead of mean."""
    return definition.margin_mse(scores, teacher) * len(scores) * (len(scores[0]) - 1)


@fault("47", "in_batch")
def temperature_multiplied(scores, temperature):
    """Scores are multiplied by the temperature, not divided."""
    return definition.in_batch(scores, 1 / temperature)


@fault("47", "pairwise_hinge")
def no_margin(positive, negative):
    """max(0, S- - S+)."""
    return max(0.0, negative - positive)


@fault("54", "matches")
def last_of_equals_answers(q, d):
    """Of equal document tokens the last one is the match."""
    products = similarities(q, d)
    rows = len(d) - 1 - products[:, ::-1].argmax(axis=1)
    return [(int(row), float(products[i, row])) for i, row in enumerate(rows)]


@fault("54", "matches")
def each_token_answers_once(q, d):
    """A document token matches one query token only: an assignment, not a maximum."""
    products, matched = similarities(q, d), []
    for row in products:
        best = max(range(len(d)), key=lambda j: (j not in {m for m, _ in matched}, row[j]))
        matched.append((best, float(row[best])))
    return matched


@fault("55", "pool")
def neighbours_pooled(d, factor):
    """Runs of `factor` tokens are pooled, however far apart they are."""
    return [np.mean(d[i : i + factor], axis=0) for i in range(0, len(d), factor)]


@fault("55", "pool")
def pooled_norms_shrink(d, factor):
    """The means keep their shorter norms."""
    return [np.mean([d[i] for i in members], axis=0) for members in definition.clusters(d, factor)]


@fault("56", "best_of_groups")
def groups_of_the_first_k(scores, groups, k):
    """Grouping follows the cut after k documents, so too few groups are left."""
    best = {}
    for i in definition.top_k(scores, k):
        best.setdefault(groups[i], i)
    return list(best.values())
