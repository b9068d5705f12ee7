"""Each reader accounts for every key, and parity refuses a broken reader."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from refcolbert.encoding.encoder import Encoder
from refcolbert.errors import ParityError, UnsupportedCheckpoint
from refcolbert_export import model
from refcolbert_export.conversion.colbert import export_checkpoint, verify_against
from refcolbert_export.layouts import multivector, xtr
from refcolbert_export.layouts.checkpoints import read_checkpoint
from refcolbert_export.layouts.overrides import Choices
from tools.export_checks.broken_exports import is_refused

GOLDEN = Path(__file__).parents[3] / "golden" / "encode"
CHAIN = GOLDEN / "pylate-chain" / "checkpoint"
MARKED = GOLDEN / "multivector-bert" / "checkpoint"


def _copy(source, tmp_path):
    return shutil.copytree(source, tmp_path / "own")


def _edit(path, changes):
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **changes}))


@pytest.mark.parametrize(
    ("source", "name", "changes", "message"),
    [
        (CHAIN, "1_Dense/config.json", {"bias": False}, "bias False"),
        (CHAIN, "1_Dense/config.json", {"use_residual": False}, "residual False"),
        (CHAIN, "1_Dense/config.json", {"out_features": 8}, "16 -> 8"),
        (CHAIN, "1_Dense/config.json", {"activation_function": "os.system"}, "torch.nn"),
        (CHAIN, "1_Dense/config.json", {"activation_function": "torch.nn.modules.activation.PReLU"}, "parameters"),
        (CHAIN, "config.json", {"max_position_embeddings": 20}, "shapes differ"),
        (CHAIN, "config_sentence_transformers.json", {"query_length": 65}, "64 positions"),
        (CHAIN, "config_sentence_transformers.json", {"query_prefix": "[nowhere] "}, "nowhere"),
        (MARKED, "sentence_bert_config.json", {"query_expansion": {"strategy": "other", "length": 4}}, "fixed or min"),
        (MARKED, "sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 3}}}, "processing_kwargs"),
        (MARKED, "sentence_bert_config.json", {"transformer_task": "fill-mask"}, "fill-mask"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(tmp_path, source, name, changes, message):
    """The export is refused by name when a setting changes vectors and cannot be followed."""
    own = _copy(source, tmp_path)
    _edit(own / name, changes)
    with pytest.raises(UnsupportedCheckpoint, match=message):
        export_checkpoint(own, tmp_path / "out")


@pytest.mark.parametrize(
    ("source", "name", "reported"),
    [
        (GOLDEN / "stanford-bert" / "checkpoint", "artifact.metadata", "artifact.metadata"),
        (GOLDEN / "stanford-bert" / "checkpoint", "config.json", "config.json"),
        (CHAIN, "config_sentence_transformers.json", "config_sentence_transformers.json"),
        (CHAIN, "sentence_bert_config.json", "sentence_bert_config.json"),
        (CHAIN, "1_Dense/config.json", "1_Dense/config.json"),
        (MARKED, "config_sentence_transformers.json", "config_sentence_transformers.json"),
        (MARKED, "sentence_bert_config.json", "sentence_bert_config.json"),
        (MARKED, "2_MultiVectorMask/config.json", "2_MultiVectorMask/config.json"),
    ],
)
def test_keys_that_no_reader_takes_are_reported(tmp_path, caplog, source, name, reported):
    """An unknown key is in the log, the model card and the report when a file has one."""
    own = _copy(source, tmp_path)
    _edit(own / name, {"new_switch": 1})
    report = export_checkpoint(own, tmp_path / "out")
    assert report["unread_keys"] == {reported: ["new_switch"]}
    assert f"{reported} has keys that are not known here: new_switch" in caplog.text
    assert f"{reported} has keys that are not known here: new_switch" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("kind", ["HierarchicalTokenPooling", "Router", "LayerNorm"])
def test_unknown_modules_are_refused(tmp_path, kind):
    """The export is refused when modules.json lists a module that changes the vectors."""
    own = _copy(MARKED, tmp_path)
    entries = json.loads((own / "modules.json").read_text())
    extra = {"idx": 4, "name": "4", "path": "4_X", "type": f"sentence_transformers.models.{kind}"}
    (own / "modules.json").write_text(json.dumps([*entries, extra]))
    with pytest.raises(UnsupportedCheckpoint, match=kind):
        export_checkpoint(own, tmp_path / "out")


def test_vectors_that_are_not_normalized_are_refused(tmp_path):
    """The export is refused when a MultiVectorEncoder has no Normalize."""
    own = _copy(MARKED, tmp_path)
    entries = json.loads((own / "modules.json").read_text())
    (own / "modules.json").write_text(json.dumps(entries[:-1]))
    with pytest.raises(UnsupportedCheckpoint, match="Normalize"):
        export_checkpoint(own, tmp_path / "out")


def test_a_tensor_of_the_head_is_accounted_for(tmp_path):
    """The export is refused when a Dense folder holds a tensor that nobody reads."""
    own = _copy(CHAIN, tmp_path)
    found = load_file(own / "1_Dense" / "model.safetensors")
    save_file({**found, "gate.weight": torch.ones(2)}, own / "1_Dense" / "model.safetensors")
    with pytest.raises(UnsupportedCheckpoint, match=r"gate\.weight"):
        export_checkpoint(own, tmp_path / "out")


def test_a_spec_that_does_not_strip_is_refused():
    """Parity refuses the export when the spec keeps spaces that the original strips."""
    assert is_refused("pylate-roberta", lambda read: replace(read, spec=replace(read.spec, strip=False)))


def test_positions_of_xlm_roberta_follow_the_ids(tmp_path, monkeypatch):
    """Parity refuses the export when positions are not counted over the expansion tokens."""
    right = model.ColbertModel.forward

    def broken(self, ids, mask):
        return right(self, torch.where(mask == 0, torch.ones_like(ids), ids), mask)

    monkeypatch.setattr(model.ColbertModel, "forward", broken)
    with pytest.raises(ParityError):
        export_checkpoint(GOLDEN / "stanford-xlm-roberta" / "checkpoint", tmp_path / "out")


def test_xtr_is_exported(tmp_path):
    """A T5 with one Dense beside it has XTR's conventions when no other layout claims it."""
    own = _copy(GOLDEN / "multivector-t5" / "checkpoint", tmp_path)
    (own / "1_Dense").rename(own / "2_Dense")
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (own / name).unlink()
    assert xtr.is_xtr(own)
    export_checkpoint(own, tmp_path / "out")
    spec = Encoder.load(tmp_path / "out").spec
    assert (spec.query_length, spec.document_length, spec.lowercase, spec.expansion_id) == (32, 512, True, None)
    assert spec.query_skiplist == spec.skiplist == (0,)


def test_min_expansion_fills_but_does_not_cut(tmp_path):
    """Queries are filled to one length and cut at another when the strategy is "min"."""
    spec = read_checkpoint(GOLDEN / "multivector-min" / "checkpoint").spec
    assert (spec.expansion_length, spec.query_length) == (7, 10)


def test_texts_are_cut_where_positions_end(tmp_path):
    """Documents are cut at the model's last position when the checkpoint allows more."""
    own = _copy(CHAIN, tmp_path)
    _edit(own / "config_sentence_transformers.json", {"document_length": 500})
    export_checkpoint(own, tmp_path / "out")
    assert Encoder.load(tmp_path / "out").spec.document_length == 64


def test_lowercasing_is_the_tokenizers_in_multivector_models():
    """do_lower_case becomes a normalizer, not a switch of the spec, when the layout is MultiVectorEncoder's."""
    found = read_checkpoint(GOLDEN / "multivector-lowercase-setting" / "checkpoint")
    assert not found.spec.lowercase
    assert json.loads(found.tokenizer_json)["normalizer"]["normalizers"][0] == {"type": "Lowercase"}
    assert multivector._lowercasing(found.tokenizer_json) == found.tokenizer_json


@pytest.mark.parametrize("case", ["pylate-prompted", "multivector-prompted"])
def test_named_prompts_are_exported(tmp_path, case):
    """Each side has the prompt that was named for it, and the folder verifies with the same, when names are given."""
    source, out = GOLDEN / case / "checkpoint", tmp_path / "out"
    prompts = json.loads((source / "config_sentence_transformers.json").read_text())["prompts"]
    names = dict(zip(("document", "query"), prompts, strict=False))  # the other way round
    export_checkpoint(source, out, choices=Choices(prompts=names))
    spec = Encoder.load(out).spec
    assert (spec.query_prompt, spec.document_prompt) == (prompts[names["query"]], prompts[names["document"]])
    verify_against(out, source)
    report = json.loads((out / "parity.json").read_text())
    (out / "parity.json").write_text(json.dumps({**report, "prompts": {}}))
    with pytest.raises(ParityError):
        verify_against(out, source)


@pytest.mark.parametrize("case", ["stanford-bert", "pylate-bert"])
def test_longer_queries_are_chosen_at_export(tmp_path, case):
    """Short queries have the checkpoint's rows and long ones are not cut when a longer query length is chosen."""
    source, out = GOLDEN / case / "checkpoint", tmp_path / "out"
    own = read_checkpoint(source).spec.query_length
    export_checkpoint(source, out, choices=Choices(query_length=own + 9))
    encoder = Encoder.load(out)
    short, exact, long = encoder.encode_queries(["a", "a " * (own - 3), "a " * (own + 50)])
    assert (len(short), len(exact), len(long)) == (own, own, own + 9)
    report = json.loads((out / "parity.json").read_text())
    (out / "parity.json").write_text(json.dumps({**report, "query_length": None}))
    with pytest.raises(ParityError):
        verify_against(out, source)


@pytest.mark.parametrize(("case", "length"), [("stanford-bert", 4), ("multivector-min", 60)])
def test_query_lengths_that_cannot_be_chosen_are_refused(tmp_path, case, length):
    """The message says why when a query length is below the filled one, or the layout has its own setting."""
    with pytest.raises(UnsupportedCheckpoint, match=r"set it in (the checkpoint's own|its) settings"):
        export_checkpoint(GOLDEN / case / "checkpoint", tmp_path / "out", choices=Choices(query_length=length))


@pytest.mark.parametrize(
    ("source", "known"), [(MARKED, "'document', 'query'"), (GOLDEN / "stanford-bert" / "checkpoint", "none")]
)
def test_an_unknown_prompt_is_refused(tmp_path, source, known):
    """The message lists the prompts that there are when the named one is not among them."""
    with pytest.raises(UnsupportedCheckpoint, match=f"no prompt named 'nowhere'; it has {known}"):
        export_checkpoint(source, tmp_path / "out", choices=Choices(prompts={"query": "nowhere"}))


@pytest.mark.parametrize("case", ["stanford-bert", "pylate-bert", "multivector-unlimited", "bge-m3"])
def test_shorter_documents_are_chosen_at_export(tmp_path, case):
    """Documents are cut at the chosen length and the folder verifies with it; a longer one is refused."""
    source, out = GOLDEN / case / "checkpoint", tmp_path / "out"
    export_checkpoint(source, out, choices=Choices(document_length=12))
    assert len(Encoder.load(out).tokenizer.documents(["a " * 50])[0].ids) == 12
    verify_against(out, source)
    with pytest.raises(UnsupportedCheckpoint, match="at most the checkpoint's"):
        export_checkpoint(source, tmp_path / "longer", choices=Choices(document_length=9999))
