"""Text -> token ids -> vectors, and text -> words.

Read in this order:

    spec       EncodingSpec: every choice that a checkpoint fixes about encoding
    tokens     text -> token ids, attention and the rows to keep
    onnx_file  external tensors and matrix products of an ONNX file, without the onnx package
    hub        downloads of models and checkpoints by hub id
    encoder    token ids -> unit vectors; the only module that imports ONNX Runtime
    words      text -> terms and their inverted lists, by SQLite's tokenizers

May import: arrays, checks, errors, and `Ragged` and `terms` of the engine. `refcolbert.Encoder` and
`refcolbert.EncodingSpec` are public; everything else here may change in any release.
"""
