"""The proof that nothing was lost: the same checkpoint by a second path that shares no reader with the first.

awkward_texts  the texts on which implementations differ
reference      the second path: transformers' own loading, the head from raw tensors
origins        how each original package encodes a text, for the second path
report         the comparison, the refusal, and the later check without torch
"""
