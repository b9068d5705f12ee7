"""Cases of an index: add, delete, compact, reopen, damage. Answers are compared with `definition.Index`, the model.

Vectors are raw and on the grid, so ids, order and scores are compared with `==`.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import strategies as st

from .oracle import definition
from .registry import case, offers
from .scoring import refused

DIM = 4
SEEDS = st.integers(0, 2**32 - 1)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "delete", "compact", "restore"]), SEEDS), min_size=1, max_size=5
)


def grid(rng, n):
    """[n, DIM] float32 on a coarse grid, where scores are often equal and float16 is exact."""
    return (rng.integers(-2, 3, (n, DIM)) / 4).astype(np.float32)


def documents(seed, n=5):
    """n documents of 1 to 3 rows."""
    rng = np.random.default_rng(seed)
    return [grid(rng, int(rng.integers(1, 4))) for _ in range(n)]


def fresh(impl):
    """An empty index of the implementation, and the model."""
    return impl.Index(DIM), definition.Index(DIM)


def ids(first, n):
    """n ids, numbered from `first`."""
    return [f"d{i}" for i in range(first, first + n)]


def same(index, model, seed=0, k=20):
    """Assert that index and model give the same answers to a few queries."""
    rng = np.random.default_rng(seed)
    for n in (1, 2, 3):
        q = grid(rng, n)
        hits = [(name, float(score)) for name, score in index.search(q, k)]
        assert hits == model.search(q, k)


@case("31", "Index", equation="8.1", heavy=True, seed=SEEDS, cut=st.integers(0, 5))
def adding_in_two_calls_is_adding_in_one(impl, seed, cut):
    """add(A), add(B) gives the same answers as add(A (+) B)."""
    five, (once, model), (twice, _) = documents(seed), fresh(impl), fresh(impl)
    once.add(ids(0, 5), five)
    model.add(ids(0, 5), five)
    for part in (slice(0, cut), slice(cut, 5)):
        if five[part]:
            twice.add(ids(0, 5)[part], five[part])
    same(once, model, seed)
    same(twice, model, seed)


@case(
    "32", "Index", "Index.delete", equation="8.2", heavy=True, seed=SEEDS, gone=st.sets(st.integers(0, 4), min_size=1)
)
def a_deleted_document_was_never_there(impl, seed, gone):
    """After delete(x) an index answers as if x had never been added. If x is added again, it comes last."""
    five, (index, model) = documents(seed), fresh(impl)
    index.add(ids(0, 5), five)
    model.add(
        *zip(*[(f"d{i}", five[i]) for i in range(5) if i not in gone], strict=True) if len(gone) < 5 else ([], [])
    )
    index.delete([f"d{i}" for i in sorted(gone)])
    same(index, model, seed)
    refused(index.delete, [f"d{min(gone)}"])
    index.add([f"d{min(gone)}"], [five[min(gone)]])
    model.add([f"d{min(gone)}"], [five[min(gone)]])
    same(index, model, seed)


@case("57", "Index", "Index.upsert", equation="8.3", heavy=True, seed=SEEDS, first=st.integers(0, 5))
def an_upserted_document_is_a_new_one(impl, seed, first):
    """upsert(x) gives the answers of delete(x), for a known id, and add(x)."""
    five, (index, model) = documents(seed), fresh(impl)
    index.add(ids(0, 5), five)
    model.add(ids(0, 5), five)
    names, new = (
        ids(first, 2),
        [five[0], five[first % 5]],
    )  # rows of other documents, so that only the order tells them apart
    index.upsert(names, new)
    model.upsert(names, new)
    same(index, model, seed)


@case(
    "28",
    "Index",
    equation="8.4",
    heavy=True,
    seed=SEEDS,
    chosen=st.sets(st.integers(0, 6), max_size=5),
    k=st.integers(1, 8),
)
def a_choice_of_ids_is_searched_alone(impl, seed, chosen, k):
    """The answer is the first k of the listed documents. Unknown ids match nothing, and an empty list has no hits."""
    five, (index, model) = documents(seed), fresh(impl)
    index.add(ids(0, 5), five)
    model.add(ids(0, 5), five)
    wanted, q = [f"d{i}" for i in sorted(chosen)], grid(np.random.default_rng(seed), 2)
    assert [(name, float(score)) for name, score in index.search(q, k, wanted)] == model.search(q, k, wanted)


@case("33", "Index", "Index.delete", equation="8.4", heavy=True, operations=OPERATIONS)
def an_index_answers_as_a_dictionary_would(impl, operations):
    """After any sequence of add, delete, compact and restore the answers are those of the model, bit for bit."""
    (index, model), number = fresh(impl), 0
    for what, seed in operations:
        names = list(model.documents)
        if what == "add":
            new = documents(seed, 1 + seed % 3)
            index.add(ids(number, len(new)), new)
            model.add(ids(number, len(new)), new)
            number += len(new)
        elif what == "delete" and names:
            index.delete([names[seed % len(names)]])
            model.delete([names[seed % len(names)]])
        elif what == "compact" and offers(index, "compact"):
            index.compact()
        elif what == "restore" and offers(index, "files"):
            index = impl.Index.from_files(index.files())
        same(index, model, seed)


@case("33", "Index", "Index.compact", equation="8", heavy=True, seed=SEEDS)
def compaction_changes_no_answer(impl, seed):
    """compact() changes no search result."""
    index, model = filled(impl, seed)
    index.compact()
    same(index, model, seed)


@case("33", "Index", "Index.files", "Index.from_files", equation="8", heavy=True, seed=SEEDS)
def a_restored_index_answers_alike(impl, seed):
    """from_files(files()) gives every search result of the index, and can be added to."""
    index, model = filled(impl, seed)
    restored = impl.Index.from_files(index.files())
    same(restored, model, seed)
    restored.add(["new"], [np.ones((1, DIM), np.float32)])
    model.add(["new"], [np.ones((1, DIM), np.float32)])
    same(restored, model, seed)


@case("34", "Index", "Index.files", equation="8", heavy=True, seed=SEEDS)
def the_same_inputs_give_the_same_bytes(impl, seed):
    """The same calls on two indexes give the same files, byte for byte."""
    first, second = (filled(impl, seed)[0].files() for _ in range(2))
    assert sorted(first) == sorted(second)
    assert all(first[name] == second[name] for name in first)


@case(
    "35",
    "Index",
    "Index.delete",
    equation="8",
    heavy=True,
    seed=SEEDS,
    wrong=st.sampled_from(["known", "twice", "dim", "nan", "unknown"]),
)
def a_call_that_fails_has_changed_nothing(impl, seed, wrong):
    """A call that raises leaves the answers and, where an index has files, the files as they were."""
    index, model = filled(impl, seed)
    before = dict(index.files()) if offers(index, "files") else None
    good, bad = np.ones((1, DIM), np.float32), np.ones((1, DIM), np.float32)
    if wrong == "nan":
        bad[0, 1] = np.nan
    names = {"known": ["n1", "d0"], "twice": ["n1", "n1"]}.get(wrong, ["n1", "n2"])
    if wrong == "unknown":
        refused(index.delete, ["d0", "nowhere"])
    else:
        refused(index.add, names, [good, bad[:, :-1] if wrong == "dim" else bad])
    same(index, model, seed)
    assert before is None or dict(index.files()) == before


@case("36", "Index", "Index.delete", "Index.reader", equation="8", heavy=True, seed=SEEDS)
def a_reader_keeps_its_answers(impl, seed):
    """A reader keeps its answers after later writes to the index."""
    index, model = filled(impl, seed)
    reader = index.reader()
    index.delete(["d0"])
    index.add(["new"], [np.ones((2, DIM), np.float32)])
    if offers(index, "compact"):
        index.compact()
    same(reader, model, seed)
    assert "new" in {name for name, _ in index.search(np.ones((1, DIM), np.float32), 20)}


@case(
    "37",
    "Index",
    "Index.files",
    "Index.from_files",
    equation="8",
    seed=SEEDS,
    place=st.floats(0, 1),
    flip=st.integers(1, 255),
    heavy=True,
)
def a_damaged_byte_is_an_error_or_harmless(impl, seed, place, flip):
    """If a byte of a file is changed, loading raises an error or the answers stay the same."""
    index, model = filled(impl, seed % 16)
    files = {name: bytearray(content) for name, content in index.files().items() if content}
    name = sorted(files)[seed % len(files)]
    files[name][min(int(place * len(files[name])), len(files[name]) - 1)] ^= flip
    try:
        damaged = impl.Index.from_files({name: bytes(content) for name, content in files.items()})
    except Exception:  # noqa: BLE001 - any error is a right answer here
        return
    same(damaged, model, seed)


@case("37", "Index", "Index.files", "Index.from_files", equation="8", heavy=True, seed=st.integers(0, 15))
def a_missing_or_shortened_file_is_an_error(impl, seed):
    """If a file is missing or one byte short, loading raises an error; each file in turn."""
    files = filled(impl, seed)[0].files()
    for name in files:
        refused(impl.Index.from_files, {other: content for other, content in files.items() if other != name})
        if files[name]:
            refused(impl.Index.from_files, {**files, name: files[name][:-1]})


@case("52", "Index", equation="8", heavy=True, seed=SEEDS)
def threads_share_an_index(impl, seed):
    """Queries in several threads get the answers that they get one after another in one thread."""
    index, _ = filled(impl, seed)
    queries = [grid(np.random.default_rng([seed, i]), 2) for i in range(12)]
    expected = [index.search(q, 5) for q in queries]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda q: index.search(q, 5), queries)) == expected


@case("53", "Index", "Index.files", equation="8", heavy=True, seed=SEEDS)
def reading_changes_no_file(impl, seed):
    """A search, also by a reader, changes no byte of any file."""
    index, model = filled(impl, seed)
    before = dict(index.files())
    same(index, model, seed)
    if offers(index, "reader"):
        same(index.reader(), model, seed)
    assert dict(index.files()) == before


def filled(impl, seed):
    """An index and its model: eight documents in two additions, one of them deleted."""
    index, model = fresh(impl)
    for target in (index, model):
        target.add(ids(0, 5), documents(seed))
        target.add(ids(5, 3), documents(seed + 1, 3))
        target.delete(["d3"])
    return index, model
