"""Checkpoint layouts: one reader per layout, each accounting for every tensor and every setting.

checkpoints            which layout a folder has, and what every reader returns
stanford               Stanford ColBERT (HF_ColBERT)
pylate                 PyLate
multivector            Sentence-Transformers' MultiVectorEncoder
xtr                    XTR
sentence_transformers  modules.json and Dense folders, which the last three share
tokenizers             the special tokens that a tokenizer puts around a text
backbones              the transformer, built from config.json and filled tensor by tensor
overrides              settings that the user wants otherwise than the checkpoint has them
"""
