"""A torch model -> an ONNX file.

to_onnx   the graph
variants  smaller storage and int8 arithmetic
gptq      int8 weights rounded together, which loses less than rounding each alone
"""
