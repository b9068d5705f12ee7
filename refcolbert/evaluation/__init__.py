"""How good, how fast, how large: metrics, significance, tuning, planning.

Read in this order:

    metrics       queries, judgements, runs; nDCG@10, MRR@10, Recall@k
    significance  two runs side by side: could the difference be chance?
    tune          recall against the exact scan, and which search parameters to take
    plan          what an index will take, before it is made

May import: everything up to the index. `refcolbert.tune` and `refcolbert.plan` are public, and what their answers hold.
"""
