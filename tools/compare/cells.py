"""Cells: the results of one system on one collection, kept in files and computed again when their inputs change.

    WORK/cells/COLLECTION/NAME.json   {"inputs": {...}, "found": {...}, "seconds": ...}
    WORK/runs/COLLECTION/NAME.trec    the ranking

"inputs" holds all that the result depends on: hashes of models and of the collection, settings, VERSION. The JSON is
renamed into place last, so an existing cell is complete. A killed command loses the cell that it was computing.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refcolbert.evaluation.metrics import Run, write_run
from tools.collections import Collection

__all__ = ["VERSION", "Cells", "digest_of"]

VERSION = 1  # raise it when the code computes something else from the same inputs

Found = dict[str, Any]


def digest_of(collection: Collection) -> str:
    """A name for the content of a collection: documents, judged queries, judgements."""
    documents = [(document.id, document.text) for document in collection.documents]
    content = json.dumps([documents, collection.queries, collection.qrels])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a work folder; `say` is called with the name of each computation."""

    work: Path
    say: Callable[[str], object]
    seconds: dict[str, float] = field(default_factory=dict)  # of every cell that was asked for, when it was computed

    def get(self, group: str, name: str, inputs: Mapping[str, Any], make: Callable[[], tuple[Found, Run]]) -> Found:
        """The content of the cell `group`/`name`, computed by `make` unless it is there with the same inputs."""
        path = self.path(group, name)
        wanted = json.loads(json.dumps({**inputs, "version": VERSION}))
        known = json.loads(path.read_text()) if path.is_file() else {}
        if known.get("inputs") == wanted:
            self.seconds[f"{group}/{name}"] = known["seconds"]
            return dict(known["found"])
        self.say(f"{group}: {name}")
        start = time.perf_counter()
        found, run = make()
        self.seconds[f"{group}/{name}"] = seconds = round(time.perf_counter() - start, 2)
        ranking = self.work / "runs" / group / f"{name}.trec"
        ranking.parent.mkdir(parents=True, exist_ok=True)
        write_run(run, ranking, tag=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"inputs": wanted, "found": found, "seconds": seconds}, indent=1) + "\n")
        part.replace(path)
        return dict(json.loads(json.dumps(found)))

    def path(self, group: str, name: str) -> Path:
        """The file of a cell."""
        return self.work / "cells" / group / f"{name}.json"
