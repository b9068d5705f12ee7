"""The torch side of refcolbert: read a trained checkpoint, write an ONNX model folder, prove that both agree.

    checkpoints  which layout a folder has, and what every reader yields
    stanford     the layout of Stanford ColBERT (HF_ColBERT)
    pylate       the layout of PyLate
    multivector  the layout of Sentence-Transformers' MultiVectorEncoder
    xtr          the layout of XTR
    plaid        indexes of Stanford's ColBERT, with pickled tensors
    next_plaid   folders of next-plaid's exporter, which hold a graph instead of weights
    modules      modules.json and Dense folders, which the last three share
    backbones    the transformer, built from config.json and filled tensor by tensor
    tensors      weights and JSON from disk, and the account of every key
    frames       what a tokenizer puts around a text
    colbert      the torch module: backbone, dense head, unit rows
    to_onnx      torch module -> ONNX bytes
    variants     smaller storage, faster arithmetic
    speed        how fast the result encodes here
    reference    the same checkpoint by a second path that shares no reader with the first
    origins      how each origin encodes a text, for that second path
    parity       the comparison of the two, as a report
    folder       the model folder: written beside its place, proved, renamed
    teachers     BM25, a bi-encoder, and the two together
    mining       hard negatives: candidates of several rankings, without those that may be relevant
    mine         the verb `refcolbert mine`: negatives and scores for one's own examples
    cli          the verbs `refcolbert export` and `refcolbert verify`

Nothing here is imported by the core, and importing this package imports no torch.
"""

__all__: list[str] = []
