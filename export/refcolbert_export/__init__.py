"""The torch side of refcolbert: train a model, export it to ONNX, and prove that both give the same vectors.

Read in this order:

    cli            the verbs `export`, `verify`, `train` and `mine`
    hub            the folder of a checkpoint that is named by a path or a hub id
    kinds          refuses by name what is not a checkpoint
    tensors        weights and JSON files of a checkpoint, and the account of every key in them
    model          ColBERT in torch: transformer, dense layers, vectors of unit length
    layouts        one reader per checkpoint format
    graph          torch model -> ONNX file, and its smaller or faster variants
    parity         the comparison of an exported model with its checkpoint
    conversion     whole conversions: checkpoint folder -> model folder
    training       training of ColBERT models and cross-encoders
    mining         hard negatives for training
    cross_encoder  runs an exported cross-encoder, without torch
    plaid_index    reads indexes of Stanford's ColBERT
    lengths        batches of texts of similar length
    replace_folder writes an output folder completely or not at all

It may import refcolbert, torch, transformers, onnx and safetensors. The core never imports it. Importing this package
or `cli` does not import torch. The names are not an API: use the command line. `cross_encoder.CrossEncoder` is
public.
"""

__all__: list[str] = []
