"""Hard negatives for training: documents that rank high for a query and do not answer it.

Read in this order:

    teachers  BM25, a bi-encoder, and their sum
    choice    candidates of several rankings, without those that may be relevant
    mine      negatives and scores for the examples of a file (the verb `refcolbert mine`)

It may import the core, `tensors`, `parity.reference` and `training.data`. The names are not an API.
"""
