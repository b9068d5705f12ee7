"""Indexes that forget, mix up, or do not notice."""

import json
import time

from ..complete import Index
from ..oracle import definition
from .faults import fault


@fault("31", "Index")
class newest_first(Index):  # noqa: N801 - named as a fault
    """Later additions come before earlier ones."""

    def add(self, ids, documents):
        """At the front."""
        super().add(ids, documents)
        new = {name: self.documents[name] for name in ids}
        self.documents = new | {name: d for name, d in self.documents.items() if name not in new}


@fault("32", "Index")
class deleted_still_answers(Index):  # noqa: N801
    """A tombstone is written and not read."""

    def delete(self, ids):
        """Only checks."""
        if any(name not in self.documents for name in ids):
            raise ValueError("unknown")


@fault("32", "Index")
class unknown_ids_deleted_in_silence(Index):  # noqa: N801
    """Deleting twice is no error."""

    def delete(self, ids):
        """What is there."""
        super().delete([name for name in ids if name in self.documents])


@fault("28", "Index")
class choice_applied_after_k(Index):  # noqa: N801
    """The filter is applied to the first k of all documents."""

    def search(self, q, k, ids=None):
        """Too few."""
        return [hit for hit in super().search(q, k) if ids is None or hit[0] in ids]


@fault("33", "Index")
class compaction_sorts_by_id(Index):  # noqa: N801
    """Compaction changes positions, hence ties."""

    def compact(self):
        """By descending id."""
        self.documents = dict(sorted(self.documents.items(), reverse=True))


@fault("33", "Index")
class float16_on_disk(Index):  # noqa: N801
    """What is restored has been rounded to a tenth."""

    @classmethod
    def from_files(cls, files) -> Index:
        """Rounded."""
        index = super().from_files(files)
        index.documents = {n: [[round(v, 1) for v in row] for row in d] for n, d in index.documents.items()}
        return index


@fault("34", "Index")
class time_in_the_files(Index):  # noqa: N801
    """A time stamp is stored."""

    def files(self):
        """With the time."""
        return {**super().files(), "created": str(time.perf_counter_ns()).encode()}


@fault("35", "Index")
class half_an_addition(Index):  # noqa: N801
    """Documents before the bad one stay."""

    def add(self, ids, documents):
        """One by one."""
        for name, d in zip(ids, documents, strict=True):
            super().add([name], [d])


@fault("36", "Index")
class reader_sees_later_writes(Index):  # noqa: N801
    """A reader shares the live dictionary."""

    def reader(self):
        """Not a copy."""
        return self


@fault("52", "Index")
class query_kept_on_the_index(Index):  # noqa: N801
    """Threads overwrite each other's query."""

    def search(self, q, k, ids=None):
        """Of whoever came last."""
        self.q = q
        time.sleep(0.002)
        return super().search(self.q, k, ids)


@fault("53", "Index")
class searches_counted(Index):  # noqa: N801
    """A reader writes down that it has read."""

    count = 0

    def search(self, q, k, ids=None):
        """And counts."""
        self.count += 1
        return super().search(q, k, ids)

    def files(self):
        """With the count."""
        return {**super().files(), "searches": str(self.count).encode()}


@fault("37", "Index")
class checksum_not_compared(Index):  # noqa: N801
    """What is read is believed."""

    @classmethod
    def from_files(cls, files) -> Index:
        """Whatever parses."""
        dim, held = json.loads(files["documents.json"])
        index = cls(dim)
        definition.Index.add(index, list(held), list(held.values()))
        return index


@fault("57", "Index")
class upsert_keeps_the_place(Index):  # noqa: N801
    """A new version takes the position of the old one."""

    def upsert(self, ids, documents):
        """In place."""
        definition.Index.add(type(self)(self.dim), ids, documents)  # refuses what is to be refused
        self.documents.update(zip(ids, documents, strict=True))


@fault("57", "Index")
class old_version_still_there(Index):  # noqa: N801
    """The new version is added beside the old one, which goes on answering."""

    def upsert(self, ids, documents):
        """Nothing is deleted."""
        names = [f"{name}'" if name in self.documents else name for name in ids]
        self.add(names, documents)

    def search(self, q, k, ids=None):
        """Both under one id."""
        return [(name.rstrip("'"), score) for name, score in super().search(q, k, ids)]
