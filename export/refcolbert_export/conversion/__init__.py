"""Whole conversions: checkpoint folder in, model folder out, written beside its place, proved, renamed.

colbert        a ColBERT checkpoint -> model folder
cross_encoder  a cross-encoder checkpoint -> its folder
next_plaid     a folder of next-plaid's exporter, which holds a graph instead of weights
card           the README of a model folder
speed          how fast the result encodes on this machine
"""
