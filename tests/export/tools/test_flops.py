"""The multiplications that are counted in a graph, against torch's own counter of what the checkpoint computes."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from refcolbert.encoding.onnx_file import matrix_products
from refcolbert_export.conversion.colbert import export_checkpoint
from refcolbert_export.graph.to_onnx import to_onnx
from refcolbert_export.layouts.checkpoints import read_checkpoint
from tools import ROOT

GOLDEN = ROOT / "golden" / "encode"
CASES = [
    *("multivector-chain", "multivector-modernbert", "multivector-mpnet", "multivector-t5", "pylate-chain"),
    *("pylate-defaults", "pylate-distilbert", "pylate-electra", "pylate-xlm-roberta"),
]


def flops(model, n):
    """FLOPs of the matrix products of one text of n tokens, as torch counts them."""
    if hasattr(model.backbone, "pooler"):
        model.backbone.pooler = None  # computed by transformers, used by nobody, not in the graph
    ids, mask = torch.full((1, n), 5), torch.ones((1, n), dtype=torch.int64)
    plain = sdpa_kernel(SDPBackend.MATH)  # the counter does not know the CPU's fused attention
    with plain, torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(ids, mask)
    return counter.get_total_flops()


@pytest.mark.parametrize("case", CASES)
def test_a_graph_multiplies_as_often_as_its_checkpoint(case):
    """Products by token and by pair of tokens give torch's FLOPs at two lengths, for every kind of backbone."""
    model = read_checkpoint(GOLDEN / case / "checkpoint").model
    by_token, by_pair = matrix_products(to_onnx(model).SerializeToString())
    for n in (7, 24):
        assert 2 * (n * by_token + n * n * by_pair) == flops(model, n)


@pytest.mark.parametrize("variant", ["float16", "int8", "int8-int4", "dynamic-int8"])
def test_a_variant_multiplies_as_often(checkpoint_for, tmp_path, variant):
    """Weights that are stored in fewer bits are found behind their casts."""
    counts = set()
    for name in ("float32", variant):
        export_checkpoint(checkpoint_for(variant), tmp_path / name, variant=name)
        counts.add(matrix_products((tmp_path / name / "model.onnx").read_bytes()))
    assert len(counts) == 1
