"""Quality, speed and size of searches and indexes.

Read in this order:

    metrics       queries, judgements and runs in BEIR and TREC files; nDCG@10, MRR@10, Recall@k
    significance  comparison of two runs: differences per query, and the p-value of the mean
    tune          recall against the exact search, and the search options to use
    no_answer     the similarity below which a query has no answer, for `min_score`
    plan          bytes, FLOPs, memory and time of an index before it is made

May import everything up to the index, and only `metrics` imports ir-measures (extra `eval`). The API is
`refcolbert.tune`, `tune_min_score`, `plan` and the classes they return, and all names of `metrics` and `significance`.
"""
