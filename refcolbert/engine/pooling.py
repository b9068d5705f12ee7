"""Token pooling: fewer vectors per document, each the mean of tokens with nearly the same vector.

This is hierarchical pooling (Clavié, Chaffin and Adams 2024, "Reducing the Footprint of Multi-Vector Retrieval with
Minimal Performance Impact via Token Pooling", section 2). Every token starts as a cluster. Ward's method joins the two
clusters of least cost until ceil(n / factor) are left. The cost is the rise of the sum of squared distances to the
cluster means:

    cost(A, B) = |A| |B| / (|A| + |B|) * |mean(A) - mean(B)|^2

Each cluster becomes one vector: its mean, scaled to the mean norm of its members, so that unit vectors stay unit
vectors. Clusters come in the order of their first tokens. The paper never joins the first token with others; here it is
a token like any other.
"""

import numpy as np

from ..arrays import Doubles, Floats, Ints
from .ragged import Ragged, offsets_of

__all__ = ["clusters", "pool", "pool_documents"]


def pool_documents(documents: Ragged, factor: int) -> Ragged:
    """Return the documents, each of n_d vectors pooled to ceil(n_d / factor); `factor` 1 changes nothing."""
    if factor == 1 or not len(documents):
        return documents
    pooled = [pool(d, clusters(d, factor)) for d in documents]
    return Ragged(np.concatenate(pooled), offsets_of([len(d) for d in pooled]))


def pool(d: Floats, labels: Ints) -> Floats:
    """Return the mean of each cluster, [n_clusters, dim], of vectors [n_d, dim] with cluster numbers [n_d] from 0."""
    counts = np.bincount(labels)  # [n_clusters]
    # Row c averages the members of cluster c.
    averaging = np.zeros((len(counts), len(d)))  # [n_clusters, n_d]
    averaging[labels, np.arange(len(d))] = 1 / counts[labels]
    means = averaging @ d.astype(np.float64)  # [n_clusters, dim]
    norms = np.linalg.norm(means, axis=1)  # [n_clusters] 0 where vectors cancel out: that mean stays 0
    wanted = averaging @ np.linalg.norm(d.astype(np.float64), axis=1)  # [n_clusters] mean norm of the members
    return np.asarray(means * np.divide(wanted, norms, out=np.ones_like(norms), where=norms > 0)[:, None], np.float32)


def clusters(d: Floats, factor: int) -> Ints:
    """Return the Ward cluster of each vector, [n_d]: ceil(n_d / factor) clusters, numbered by their first tokens.

    The dendrogram has n_d - 1 unions. The cheapest n_d - ceil(n_d / factor) of them leave that number of clusters.

    >>> clusters(np.array([[1, 0], [0, 1], [0.9, 0.1], [0.1, 0.9]], np.float32), 2)
    array([0, 1, 0, 1])
    """
    pairs, costs = _dendrogram(d)
    n_clusters = -(-len(d) // factor)
    cheapest = np.argsort(costs, kind="stable")[: len(d) - n_clusters]
    root = np.arange(len(d))  # [n_d] the cluster of each vector, named by one of its vectors
    # A union costs at least as much as each union within it, so in order of cost the parts come before the whole.
    for a, b in pairs[cheapest]:
        root[root == root[b]] = root[a]
    # `np.unique` numbers the clusters by their roots. The ranks of their first tokens renumber them.
    _, first, labels = np.unique(root, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[labels]


def _dendrogram(d: Floats) -> tuple[Ints, Doubles]:
    """Return the n_d - 1 unions of Ward's method: a token of each side [n_d - 1, 2], and the cost of each [n_d - 1].

    The method follows a chain of nearest neighbours (Murtagh 1983). Each cluster of the chain is the nearest one to the
    cluster before it. When two clusters are each other's nearest, they are joined. That gives the same unions as
    joining the nearest two of all clusters each time, in another order. It takes n_d^2 steps instead of n_d^3.
    """
    n = len(d)
    x = d.astype(np.float64)
    squares = (x * x).sum(axis=1)  # [n]
    # [n, n] the cost of joining two clusters. Between single vectors |A| |B| / (|A| + |B|) is 1/2. A cluster that was
    # joined into another keeps its row and column, with infinite costs and size 0.
    cost = np.maximum(squares[:, None] + squares - 2 * (x @ x.T), 0) / 2
    np.fill_diagonal(cost, np.inf)
    size = np.ones(n)
    pairs, costs, chain = np.empty((n - 1, 2), np.int64), np.empty(n - 1), [0]
    for union in range(n - 1):
        if not chain:
            chain = [int(np.argmax(size > 0))]
        while True:
            here = chain[-1]
            nearest = int(cost[here].argmin())
            # Among equally near clusters the one before in the chain wins, or the chain could go round forever.
            if len(chain) > 1 and cost[here, chain[-2]] <= cost[here, nearest]:
                break
            chain.append(nearest)
        a, b = sorted((chain.pop(), chain.pop()))
        pairs[union], costs[union] = (a, b), cost[a, b]
        # Lance and Williams' rule: the cost of joining the union with any other cluster, from the costs of its parts.
        joined = (size[a] + size) * cost[a] + (size[b] + size) * cost[b] - size * cost[a, b]
        joined /= size[a] + size[b] + size
        size[a], size[b] = size[a] + size[b], 0
        cost[a], cost[:, a] = joined, joined
        cost[b], cost[:, b], cost[a, a] = np.inf, np.inf, np.inf
    return pairs, costs
