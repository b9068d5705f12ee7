"""Writes a torch model as an ONNX file.

Read in this order:

    to_onnx    torch model -> ONNX graph -> model.onnx, with large weights in a second file
    variants   float16 and int8 storage, int8 arithmetic
    four_bits  two values of a table per byte
    gptq       rounding of int8 weights that makes up for its own errors

It may import the core, `model` and `parity`. The names are not an API.
"""
