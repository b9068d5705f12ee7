"""Whole conversions: a checkpoint folder becomes a model folder, which appears only after the parity check passed.

Read in this order:

    colbert        ColBERT checkpoint -> model folder
    next_plaid     folders of next-plaid's exporter, which hold a graph instead of weights
    cross_encoder  cross-encoder checkpoint -> model folder
    card           the README.md of a model folder
    speed          encoding speed of the result on this machine

It may import the core and every folder beside it except `mining`. The names are not an API.
"""
