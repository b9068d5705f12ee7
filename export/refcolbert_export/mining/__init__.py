"""Hard negatives for training.

teachers  BM25, a bi-encoder, and the two together
choice    candidates of several rankings, without those that may be relevant
mine      the verb `refcolbert mine`: negatives and scores for one's own examples
"""
