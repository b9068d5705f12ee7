"""Checkpoint layouts: one reader per layout. Each reader accounts for every tensor and every setting.

Read in this order:

    checkpoints            finds the layout of a folder and reads it
    stanford               Stanford ColBERT (HF_ColBERT)
    sentence_transformers  modules.json and Dense folders, which the next three share
    pylate                 PyLate
    multivector            Sentence-Transformers' MultiVectorEncoder
    xtr                    XTR
    bge_m3                 BAAI/bge-m3
    single_file            ColBERT v1's .dnn file, as a folder in Stanford's layout
    backbones              the transformer, built from config.json and filled tensor by tensor
    tokenizers             the special tokens that a tokenizer puts around a text
    overrides              settings with which the user replaces the checkpoint's

It may import the core, `model` and `tensors`. The names are not an API.
"""
