"""Index folders made by an attacker, checksums included: each is refused by type, in bounded memory, without a hang."""

import contextlib
import hashlib
import os

import pytest

from refcolbert import Index
from refcolbert.documents import Document
from refcolbert.errors import CorruptIndexError, IndexFileError, RefColbertError
from tools.faults.attacks import MUTANTS, attacks, outcome
from tools.faults.hostile import CASES, MANIFESTS, WORDS, make, packed


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_folder_is_refused(name, tmp_path):
    """Whatever the attacker did is a CorruptIndexError; nothing is run, followed, waited for or blown up."""
    scenario, attack = CASES[name]
    folder = make(tmp_path, scenario)
    attack(folder)
    folder.sign()
    found = outcome(folder.path, "full")
    (folder.path / "manifest.json").unlink()  # so that no later check sees it
    assert found.startswith("CorruptIndexError: ")
    assert not folder.canary.exists()
    assert folder.victim.read_bytes() == b"precious"


@pytest.mark.parametrize("name", MUTANTS)
def test_a_reader_that_checks_less_is_caught(name, scratch):
    """Each seeded mutant lets some attack through."""
    with MUTANTS[name]():
        assert attacks(scratch, until_bad=True).bad


@pytest.mark.parametrize("name", WORDS)
def test_hostile_words_that_are_not_verified_do_no_harm(name, tmp_path):
    """Opened with verify="fast", a search by words answers wrongly at worst, or raises a RefColbertError."""
    folder = make(tmp_path, "compact")
    WORDS[name](folder)
    folder.sign()
    with contextlib.suppress(RefColbertError):
        Index.open(folder.path, verify="fast").search("text 4 changed", 50, mode="words")
    (folder.path / "manifest.json").unlink()


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_hostile_manifest_is_refused(name, tmp_path):
    """Bytes that are no strict manifest are a CorruptIndexError before much of them is looked at."""
    folder = make(tmp_path, "add")
    folder.publish(MANIFESTS[name](folder))
    found = outcome(folder.path, "full")
    (folder.path / "manifest.json").unlink()
    assert found.startswith("CorruptIndexError: ")
    assert not folder.canary.exists()


@pytest.mark.parametrize("what", ["manifest.json", "data", "copy"])
@pytest.mark.parametrize("make_it", [os.mkfifo, lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to("..")])
def test_a_hostile_fixture_is_refused(what, make_it, tmp_path):
    """A pipe, a device or a link in place of the manifest, of its copy or of data/ is refused without waiting."""
    folder = make(tmp_path, "add")
    path = folder.path / what if what != "copy" else max((folder.path / "data").glob("*-manifest.json"))
    path.rename(tmp_path / "away")
    make_it(path)
    assert outcome(folder.path, "full").startswith("CorruptIndexError: ")
    path.unlink()
    (folder.path / "manifest.json").unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["manifest.json.tmp", "writer.lock", "data/00000099-000-codes.npy"])
@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_writing_never_goes_through_a_link(name, link, tmp_path):
    """A link where the writer writes is removed or refused; what it leads to keeps its content."""
    folder = make(tmp_path, "add")
    path = folder.path / name
    path.unlink(missing_ok=True)
    path.symlink_to(folder.victim) if link == "symbolic" else os.link(folder.victim, path)
    try:
        Index.open(folder.path).compact()
    except IndexFileError:
        path.unlink()
    assert folder.victim.read_bytes() == b"precious"


def test_a_hard_link_is_read_like_the_file_it_is(tmp_path):
    """Backups link files hard: reading such an index works, and writing to it leaves the other copy as it was."""
    folder = make(tmp_path, "compact")
    (tmp_path / "backup" / "data").mkdir(parents=True)
    for path in [folder.path / "manifest.json", *(folder.path / "data").iterdir()]:
        os.link(path, tmp_path / "backup" / path.relative_to(folder.path))
    before = {p: p.read_bytes() for p in (tmp_path / "backup").rglob("*") if p.is_file()}
    Index.open(folder.path, verify="full").compact(refit=True)
    assert {
        p: p.read_bytes() for p in (tmp_path / "backup").rglob("*") if p.is_file() and p.name != "writer.lock"
    } == before
    Index.open(tmp_path / "backup", verify="full").check()


def test_two_live_documents_with_one_id_are_found(tmp_path):
    """check compares ids across segments."""
    folder = make(tmp_path, "compact")
    segments = folder.manifest["segments"]
    assert len(segments) > 1
    names = ["d0"] + [f"other{i}" for i in range(1, segments[1]["n_docs"])]
    content = packed([Document(id=name) for name in names])
    entry = segments[1]["files"]["documents"]
    (folder.path / "data" / entry["name"]).write_bytes(content)
    entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    folder.sign()
    with pytest.raises(CorruptIndexError, match="found 'd0' twice"):
        Index.open(folder.path).check()
    (folder.path / "manifest.json").unlink()
