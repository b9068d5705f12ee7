"""The names of all goldens, without the imports that making them needs."""

SEED = 17
LOSSES = ("pairwise_hinge", "pairwise_softmax", "n_way", "in_batch", "kl_divergence", "margin_mse")
CASES: dict[str, tuple[str, ...]] = {
    "scoring": ("pylate", "colbert-ai", "sentence-transformers"),
    "losses": LOSSES,
    "codec": ("1bit", "2bits", "4bits", "8bits"),
    "rankings": ("docstrings",),
    "words": ("bm25s",),
}
