"""What is no checkpoint, named for what it is before torch is imported."""

import json
import shutil
import subprocess
import sys

import pytest

from refcolbert.errors import UnsupportedCheckpoint
from refcolbert_export.hub import checkpoint_folder
from refcolbert_export.kinds import check_kind
from refcolbert_export.training.start import Head, read_start
from tools import ROOT

GOLDENS = sorted(path / "checkpoint" for path in (ROOT / "golden" / "encode").iterdir() if path.is_dir())
BERT = {"model_type": "bert", "architectures": ["BertModel"]}
POOLED = [{"type": "sentence_transformers.models.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 438000000\n"
ELSEWHERE = {"AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA"}
COMPLETE = {"model.safetensors": "", "tokenizer.json": {}}

# What the user has -> (its files, what the refusal says of it, the next step)
FOLDERS = {
    "a bi-encoder": (
        {"config.json": BERT, "modules.json": POOLED, "config_sentence_transformers.json": {}, **COMPLETE},
        ("a bi-encoder", "refcolbert train"),
    ),
    "a transformer": ({"config.json": BERT, **COMPLETE}, ("a transformer without a projection", "refcolbert train")),
    "an image model": (
        {"config.json": {"architectures": ["ColQwen2"], "model_type": "colqwen2"}, **COMPLETE},
        ("a model of images", "the package that trained it"),
    ),
    "an adapter of an image model": (
        {"adapter_config.json": {}, "preprocessor_config.json": {"image_processor_type": "SiglipImageProcessor"}},
        ("a model of images", "the package that trained it"),
    ),
    "a LoRA adapter": (
        {"adapter_config.json": {"base_model_name_or_path": "owner/base"}, "adapter_model.safetensors": ""},
        ("LoRA adapter without its base 'owner/base'", "merge_and_unload"),
    ),
    "a Git LFS pointer": (
        {"config.json": BERT, "artifact.metadata": {}, "model.safetensors": POINTER, "tokenizer.json": {}},
        ("a Git LFS pointer in place of model.safetensors", "git lfs pull"),
    ),
    "ColBERT v1": ({"colbert.dnn": "", "README.md": ""}, ("ColBERT v1", "--tokenizer FOLDER")),
    "GGUF": ({"config.json": BERT, "model-Q8_0.gguf": ""}, ("GGUF", "export the checkpoint")),
    "ONNX": ({"config.json": BERT, "onnx/model.onnx": ""}, ("ONNX without", "export the checkpoint")),
    "an exported model": (
        {"model.onnx": "", "tokenizer.json": {}, "encoding.json": {}},
        ("an exported model", "Encoder.load"),
    ),
    "no tokenizer": (
        {"config.json": BERT, "artifact.metadata": {}, "model.safetensors": ""},
        ("no tokenizer.json", "package `tokenizers`"),
    ),
    "a Python-only tokenizer": (
        {
            **{"config.json": BERT, "artifact.metadata": {}, "model.safetensors": "", "vocab.txt": ""},
            "tokenizer_config.json": {"tokenizer_class": "BertJapaneseTokenizer"},
        },
        ("BertJapaneseTokenizer, which is written in Python", "package `tokenizers`"),
    ),
    "code in another repository": (
        {"config.json": {**BERT, "auto_map": ELSEWHERE}, "artifact.metadata": {}, **COMPLETE},
        ("code in another repository, jinaai/xlm-roberta-flash-implementation", "copy it into the folder"),
    ),
}
FILES = {
    "colbert.dnn": ("ColBERT v1", "--tokenizer FOLDER"),
    "model.gguf": ("GGUF", "export the checkpoint"),
    "model.onnx": ("ONNX without", "export the checkpoint"),
    "model.safetensors": ("a file", "name the folder"),
}


def write(folder, files):
    """A folder with these files; what is not text is written as JSON."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_is_named_for_what_it_is(tmp_path, kind):
    """The refusal says what the folder holds and what to do with it."""
    files, expected = FOLDERS[kind]
    with pytest.raises(UnsupportedCheckpoint) as refusal:
        checkpoint_folder(str(write(tmp_path / "folder", files)))
    assert all(part in str(refusal.value) for part in expected), refusal.value


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_named_for_what_it_is(tmp_path, name):
    """The refusal says what the file is and what to do with it."""
    (tmp_path / name).touch()
    with pytest.raises(UnsupportedCheckpoint) as refusal:
        checkpoint_folder(str(tmp_path / name))
    assert all(part in str(refusal.value) for part in FILES[name]), refusal.value


@pytest.mark.parametrize("folder", GOLDENS, ids=lambda path: path.parent.name)
def test_every_golden_checkpoint_passes(folder):
    """No checkpoint that the readers export is refused."""
    assert checkpoint_folder(str(folder)) == folder


def test_code_that_transformers_has_itself_passes(tmp_path):
    """A class elsewhere is no obstacle when transformers has a class of its name for the model's type."""
    own = {"AutoModel": "owner/code--modeling_bert.BertModel"}
    check_kind(write(tmp_path, {"config.json": {**BERT, "auto_map": own}, "artifact.metadata": {}, **COMPLETE}))


def test_next_plaid_folders_pass(tmp_path):
    """ONNX alone is not refused when a reader knows its settings."""
    check_kind(write(tmp_path, {"model.onnx": "", "onnx_config.json": {}, "tokenizer.json": {}}))


def test_a_bi_encoder_is_refused_by_export_and_taken_by_train(transformer, tmp_path):
    """Training starts from the same folder that has no projection to export."""
    folder = write(shutil.copytree(transformer, tmp_path / "bi-encoder"), {"modules.json": POOLED})
    with pytest.raises(UnsupportedCheckpoint, match="a bi-encoder"):
        checkpoint_folder(str(folder))
    assert read_start(folder, Head(dim=8)).new_head


def test_a_refusal_imports_no_torch(tmp_path):
    """The command line refuses a folder without torch or transformers."""
    folder = write(tmp_path / "folder", FOLDERS["a LoRA adapter"][0])
    code = (
        "import sys\n"
        "from refcolbert.errors import UnsupportedCheckpoint\n"
        "from refcolbert_export import cli\n"
        "try: cli.export.main([sys.argv[1], 'out'], standalone_mode=False)\n"
        "except UnsupportedCheckpoint: sys.exit({'torch', 'transformers', 'onnx'} & set(sys.modules) != set())\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code, folder], check=False).returncode == 0
