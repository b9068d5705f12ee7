"""A small training set on which the tiny checkpoint learns, and the way to train it."""

import json
from pathlib import Path

import pytest

from refcolbert_export.training.batches import Draw
from refcolbert_export.training.data import read_examples
from refcolbert_export.training.loop import train
from refcolbert_export.training.settings import Settings
from refcolbert_export.training.start import Head, read_start, read_teacher

SENTENCE = "date file string list wing flow heat layer read write open close error call"
WORDS = SENTENCE.split()
SMALL = {"batch": 4, "learning_rate": 1e-3, "head_learning_rate": 1e-2, "losses": {"in-batch": 1.0}, "threads": 1}


def records(n=24):
    """Queries that share a word with their positive, two negatives, a teacher's scores."""
    out = []
    for i in range(n):
        a, b, c = WORDS[i % 14], WORDS[(i * 3 + 1) % 14], WORDS[(i * 5 + 2) % 14]
        negatives = [f"not {c} {i}", f"other {i} " + "and more " * (i % 5)]
        scores = [3.0, 1.0, 0.5 + i / 10]
        out.append(
            {"query": f"how {a} {b}", "positive": f"the {a} of {b} is {i}", "negatives": negatives, "scores": scores}
        )
    return out


def write_jsonl(path, rows):
    """Write one line per row and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def examples(folder, n=24):
    """The records as examples, through their file."""
    return read_examples([write_jsonl(Path(folder) / f"{n}.jsonl", records(n))])


def interrupted(train_it, step):
    """Call a function that trains, and end it with Ctrl-C after `step` steps."""
    batch = Draw.batch

    def killed(self, number):
        if number == step:
            raise KeyboardInterrupt
        return batch(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draw, "batch", killed)
        with pytest.raises(KeyboardInterrupt):
            train_it()


def run(checkpoint, out, data, resume=False, validation=None, teacher=None, **settings):
    """Train the checkpoint and return the folder of the result."""
    chosen, taught_by = Settings(**{"steps": 6, **SMALL, **settings}), teacher and read_teacher(teacher)
    start = read_start(checkpoint, Head())
    return train(start, data, out, chosen, teacher=taught_by, resume=resume, validation=validation)
