"""Cells: what one computation over one collection found, kept in files and redone only when its inputs change.

    WORK/cells/COLLECTION/NAME.json   {"inputs": {...}, "found": {...}, "seconds": what it took}
    WORK/runs/COLLECTION/NAME.trec    where the cell ranked documents

"inputs" holds all that the result depends on: hashes of models and of the collection, settings, VERSION. The JSON is
renamed into place last, so a cell that is there is complete; a killed command loses the cell it was in.
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
    """The cells of a work folder; `say` is told what is being computed."""

    work: Path
    say: Callable[[str], object]
    seconds: dict[str, float] = field(default_factory=dict)  # of every cell that was asked for, when it was computed

    def get(
        self, group: str, name: str, inputs: Mapping[str, Any], make: Callable[[], tuple[Found, Run | None]]
    ) -> Found:
        """What the cell `group`/`name` holds, computed by `make` unless it is there with the same inputs."""
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
        if run is not None:
            beside = self.work / "runs" / group / f"{name}.trec"
            beside.parent.mkdir(parents=True, exist_ok=True)
            write_run(run, beside, tag=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"inputs": wanted, "found": found, "seconds": seconds}, indent=1) + "\n")
        part.replace(path)
        return dict(json.loads(json.dumps(found)))

    def path(self, group: str, name: str) -> Path:
        """Where a cell lies."""
        return self.work / "cells" / group / f"{name}.json"
