"""A tiny collection, and tiny models of every architecture, for the tests of the comparison."""

import json

import torch
from transformers import BertConfig, BertModel

from refcolbert_export.conversion.cross_encoder import export_cross_encoder
from refcolbert_export.training.cross_encoder import CrossInteraction, read_cross_start
from refcolbert_export.training.settings import Settings
from tools.goldens import tiny_model

TEXTS = [
    "read a file line by line and close it",
    "parse the date that stands in a string",
    "the flow over a wing",
    "heat in the boundary layer of a wing",
    "how a vector index finds a document",
    "write the list to a file",
    "an error when the path does not open",
    "the class has a method and the method has a name",
    "a query is not a document",
    "open the module and read its name",
    "the score of a token in the document",
    "time is a number",
    "the wing, the flow, the heat and the layer",
    "return the value that the function was called with",
]
QUERIES = {
    "q3": "heat of a wing",
    "q1": "read the lines of a file",
    "q4": "score of a document",
    "q2": "when is the date",
    "q5": "name of the method",
    "q6": "xyzzy qqq",  # shares no word with a document
}
QRELS = {
    "q1": {"d0": 2, "d5": 1},
    "q2": {"d1": 1},
    "q3": {"d3": 2, "d12": 1},
    "q4": {"d10": 1, "d4": 1},
    "q5": {"d7": 1},
    "q6": {"d11": 1},
}


def write_collection(folder):
    """The collection in BEIR's layout; returns its folder."""
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)]
    queries = [{"_id": name, "text": text} for name, text in QUERIES.items()]
    for name, records in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = [f"{q}\t{d}\t{grade}\n" for q, judged in QRELS.items() for d, grade in judged.items()]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return folder


def write_sentence_encoder(folder):
    """A seeded sentence encoder with mean pooling that reads 512 tokens."""
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    config = BertConfig(vocab_size=len(tiny_model.vocabulary()), max_position_embeddings=512, **shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.ndim == 2 else 1)
    model.save_pretrained(folder)
    tiny_model.tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder


def write_cross_encoder(transformer, folder, seed=0):
    """(checkpoint, exported folder) of a cross-encoder whose head is drawn and not trained."""
    settings = Settings(steps=1, architecture="cross-encoder", losses={"n-way": 1.0})
    start = read_cross_start(transformer, seed)
    with torch.no_grad():
        start.model.classifier.weight.mul_(50)  # scores that differ
    folder.mkdir(parents=True)
    CrossInteraction(start, settings).save(folder / "checkpoint")
    export_cross_encoder(folder / "checkpoint", folder / "model")
    return folder / "checkpoint", folder / "model"
