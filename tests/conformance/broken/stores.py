"""Faults in an index: in its documents, its order, its files and its errors."""

import json
import time

from ..complete import Index
from ..oracle import definition
from .faults import fault


@fault("31", "Index")
class newest_first(Index):  # noqa: N801 - named as a fault
    """Later additions come before earlier ones."""

    def add(self, ids, documents, terms=None):
        """Put new documents first."""
        super().add(ids, documents, terms)
        new = {name: self.documents[name] for name in ids}
        self.documents = new | {name: d for name, d in self.documents.items() if name not in new}


@fault("32", "Index")
class deleted_still_answers(Index):  # noqa: N801
    """A deletion is recorded and never applied."""

    def delete(self, ids):
        """Only check the ids."""
        if any(name not in self.documents for name in ids):
            raise ValueError("unknown")


@fault("32", "Index")
class unknown_ids_deleted_in_silence(Index):  # noqa: N801
    """Deleting an unknown id is not an error."""

    def delete(self, ids):
        """Delete the known ids."""
        super().delete([name for name in ids if name in self.documents])


@fault("28", "Index")
class choice_applied_after_k(Index):  # noqa: N801
    """The filter is applied to the first k of all documents."""

    def search(self, q, k, ids=None):
        """Filter too late."""
        return [hit for hit in super().search(q, k) if ids is None or hit[0] in ids]


@fault("33", "Index")
class compaction_sorts_by_id(Index):  # noqa: N801
    """Compaction changes positions, and with them the order of equal scores."""

    def compact(self):
        """Sort by descending id."""
        self.documents = dict(sorted(self.documents.items(), reverse=True))


@fault("33", "Index")
class float16_on_disk(Index):  # noqa: N801
    """Restored vectors are rounded to a tenth."""

    @classmethod
    def from_files(cls, files) -> Index:
        """Round the vectors."""
        index = super().from_files(files)
        index.documents = {n: [[round(v, 1) for v in row] for row in d] for n, d in index.documents.items()}
        return index


@fault("34", "Index")
class time_in_the_files(Index):  # noqa: N801
    """A time stamp is written."""

    def files(self):
        """Add the time."""
        return {**super().files(), "created": str(time.perf_counter_ns()).encode()}


@fault("35", "Index")
class half_an_addition(Index):  # noqa: N801
    """Documents before the invalid one stay in the index."""

    def add(self, ids, documents, terms=None):
        """Add one document at a time."""
        for name, d in zip(ids, documents, strict=True):
            super().add([name], [d])


@fault("36", "Index")
class reader_sees_later_writes(Index):  # noqa: N801
    """A reader shares the documents of the index."""

    def reader(self):
        """Return the index instead of a copy."""
        return self


@fault("52", "Index")
class query_kept_on_the_index(Index):  # noqa: N801
    """Threads overwrite each other's query."""

    def search(self, q, k, ids=None):
        """Search with the query of the last thread."""
        self.q = q
        time.sleep(0.002)
        return super().search(self.q, k, ids)


@fault("53", "Index")
class searches_counted(Index):  # noqa: N801
    """A search changes the files."""

    count = 0

    def search(self, q, k, ids=None):
        """Count the search."""
        self.count += 1
        return super().search(q, k, ids)

    def files(self):
        """Add the count."""
        return {**super().files(), "searches": str(self.count).encode()}


@fault("37", "Index")
class checksum_not_compared(Index):  # noqa: N801
    """Damaged files are not noticed."""

    @classmethod
    def from_files(cls, files) -> Index:
        """Load every file that can be parsed."""
        dim, documents, _ = json.loads(files["documents.json"])
        index = cls(dim)
        definition.Index.add(index, list(documents), list(documents.values()))
        return index


@fault("57", "Index")
class upsert_keeps_the_place(Index):  # noqa: N801
    """A new version keeps the position of the old one."""

    def upsert(self, ids, documents, terms=None):
        """Replace in place."""
        definition.Index.add(type(self)(self.dim), ids, documents)  # raises for invalid input
        self.documents.update(zip(ids, documents, strict=True))


@fault("57", "Index")
class old_version_still_there(Index):  # noqa: N801
    """The old version is still found beside the new one."""

    def upsert(self, ids, documents, terms=None):
        """Add under another id."""
        names = [f"{name}'" if name in self.documents else name for name in ids]
        self.add(names, documents)

    def search(self, q, k, ids=None):
        """Return both under one id."""
        return [(name.rstrip("'"), score) for name, score in super().search(q, k, ids)]
