"""The manifest and the array headers: what the specification allows is read, everything else is refused by type."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert.errors import CorruptIndexError, IndexTooNewError
from refcolbert.storage.format import (
    FORMAT_VERSION,
    LARGEST_MANIFEST,
    EncoderEntry,
    Manifest,
    VectorFormat,
    array_types,
    manifest_copy_name,
    npy_header,
)
from tools.faults.manifests import EXAMPLE, PATHS, PLAIN, changed, example, manifests, missed, sign, with_files

F2, F4, I8, U1, U2, U4 = map(np.dtype, ("<f2", "<f4", "<i8", "u1", "<u2", "<u4"))


GOOD = EXAMPLE


@pytest.mark.parametrize(
    "manifest",
    [
        GOOD,
        example(1),
        example(2),
        example(8),
        example("float16", encoded=False),
        example("float32", encoded=False),
        example(4, encoded=False),
        Manifest(generation=1, dim=4096, nbits=4, train_at=1, seed=2**63 - 1),
        Manifest(generation=1, dim=4, nbits=4, train_at=1, seed=0, format_version=1),
        replace(GOOD, encoder=EncoderEntry("0" * 64, None)),
    ],
    ids=range(10),
)
def test_a_manifest_reads_back_as_it_was(manifest):
    """What to_bytes writes from_bytes reads, and equal manifests have equal bytes."""
    data = manifest.to_bytes()
    assert Manifest.from_bytes(data) == manifest
    assert Manifest.from_bytes(data).to_bytes() == data


def test_each_field_obeys_its_rule():
    """A field that is missing, null, negative, 0, huge, a fraction, a text, a list or an object is refused."""
    found = manifests()
    assert found.bad == []
    assert found.cases >= 300


def test_each_rule_is_needed():
    """A reader of which one rule allows anything is caught by that table."""
    assert missed() == []


def without_term_files(files):
    """The files of a segment without those of its words."""
    return {role: file for role, file in files.items() if not role.startswith("term_")}


def first_version(plain):
    """The same manifest without words, as version 1 writes it."""
    segments = [
        {
            **{key: value for key, value in segment.items() if key != "words"},
            "files": without_term_files(segment["files"]),
        }
        for segment in plain["segments"]
    ]
    plain = {key: value for key, value in plain.items() if key != "words"}
    return {**plain, "segments": segments, "format_version": 1}


def test_a_manifest_of_version_1_is_written_back_byte_for_byte():
    """It has no key "words" anywhere; reading gives no words, and writing the same bytes."""
    data = sign(json.dumps(first_version(PLAIN), sort_keys=True, indent=1).encode())
    found = Manifest.from_bytes(data)
    assert (found.format_version, found.words, [s.words for s in found.segments]) == (1, None, [None, None])
    assert found.to_bytes() == data


V1 = first_version(PLAIN)
VERSIONS = {
    "1 with the key": {**V1, "words": None},
    "1 with words": {**PLAIN, "format_version": 1},
    "1 with the key in a segment": {**V1, "segments": [{**V1["segments"][0], "words": None}, V1["segments"][1]]},
    "1 without segments": {key: value for key, value in V1.items() if key != "segments"},
    "1 with a segment that is not an object": {**V1, "segments": [3]},
    "1 with null for segments": {**V1, "segments": None},
    "true": {**V1, "format_version": True},
    "1.0": {**V1, "format_version": 1.0},
    "2 without the key": {**V1, "format_version": 2},
    "2 without the key in segments": {**V1, "words": None, "format_version": 2},
    "2 without the key in one segment": {
        **PLAIN,
        "words": None,
        "format_version": 2,
        "segments": [{**V1["segments"][0], "words": None}, V1["segments"][1]],
    },
}


@pytest.mark.parametrize("name", VERSIONS)
def test_words_belong_to_version_2(name):
    """Version 1 has the key nowhere, version 2 has it everywhere; anything between is refused."""
    with pytest.raises(CorruptIndexError):
        Manifest.from_bytes(sign(VERSIONS[name]))


DISAGREEMENTS = {
    "unknown key": {**PLAIN, "extra": 1},
    "unknown encoder key": changed(("encoder",), {"hash": "e" * 64, "source": None, "x": 1}),
    "unknown role": changed(("codec", "files", "more"), PLAIN["codec"]["files"]["starts"]),
    "codec for raw vectors": changed(("nbits",), "float16"),
    "name with a folder": changed(("codec", "files", "starts", "name"), "../starts.npy"),
    "absolute name": changed(("codec", "files", "starts", "name"), "/starts.npy"),
    "name with a backslash": changed(("codec", "files", "starts", "name"), "a\\starts.npy"),
    "name ending in a newline": changed(("codec", "files", "starts", "name"), "starts.npy\n"),
    "long name": changed(("codec", "files", "starts", "name"), "a" * 65 + ".npy"),
    "upper case name": changed(("codec", "files", "starts", "name"), "STARTS.npy"),
    "another ending": changed(("codec", "files", "starts", "name"), "starts.pkl"),
    "array as documents": changed(("codec", "files", "starts", "name"), "starts.sqlite"),
    "documents as array": changed(("segments", 1, "files", "documents", "name"), "documents.npy"),
    "one name twice": changed(("codec", "files", "starts", "name"), PLAIN["codec"]["files"]["coarse"]["name"]),
    "size of another shape": changed(("segments", 1, "n_tokens"), 51),
    "dim beyond the limit": changed(("dim",), 4097),
    "all deleted": changed(("segments", 1, "n_deleted"), 10),
    "more documents than positions": changed(("next_position",), 29),
    "upper case hash": changed(("codec", "files", "starts", "sha256"), "A" * 64),
    "long source": changed(("encoder", "source"), "s" * 4097),
    "lone surrogate": changed(("encoder", "source"), "\ud800"),
    "too many segments": changed(("segments",), [PLAIN["segments"][0]] * 4097),
    "words in only some segments": changed(("segments", 0, "words"), None),
    "words in segments alone": changed(("words",), None),
    "words of an unknown tokenizer": changed(("words",), "simple"),
    "unknown words key": changed(("segments", 0, "words"), {"n_terms": 30, "n_bytes": 150, "n_entries": 90, "x": 1}),
    "more terms than bounds": changed(("segments", 1, "words", "n_terms"), 8),
    "words without their files": changed(("segments", 1, "files"), without_term_files(PLAIN["segments"][1]["files"])),
    "a list": [PLAIN],
    "null": None,
    "a number": 3,
    "older than any": changed(("format_version",), 0),
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_what_fields_say_about_each_other_must_agree(name):
    """Each value may be well-formed; together they are refused."""
    with pytest.raises(CorruptIndexError):
        Manifest.from_bytes(sign(DISAGREEMENTS[name]))


def test_fewer_tokens_than_documents_are_refused():
    """A document has at least one vector, also when the sizes agree."""
    manifest = example(4, encoded=False)
    thin = with_files(manifest, replace(manifest.segments[0], n_docs=20, n_tokens=19, files={}), 2)
    with pytest.raises(CorruptIndexError, match="n_docs <= n_tokens"):
        Manifest.from_bytes(replace(manifest, segments=(thin,)).to_bytes())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\xff\xfe",
        b"{'a': 1}",
        json.dumps(PLAIN).encode().replace(b'"seed": 3', b'"seed": 3, "seed": 3'),
        json.dumps(PLAIN).encode().replace(b'"seed": 3', b'"seed": NaN'),
        json.dumps(PLAIN).encode().replace(b'"seed": 3', b'"seed": Infinity'),
        json.dumps(PLAIN).encode().replace(b'"seed": 3', b'"seed": 1e400'),
        json.dumps(PLAIN).encode().replace(b'"seed": 3', b'"seed": ' + b"9" * 5000),
        json.dumps(PLAIN).encode() + b" {}",
        b"\xef\xbb\xbf" + json.dumps(PLAIN).encode(),
        json.dumps(PLAIN).encode("utf-16"),
    ],
    ids=range(14),
)
def test_json_that_is_not_strict_is_refused(body):
    """Deep nesting, repeated keys, NaN, huge numbers, other encodings: a CorruptIndexError, also when re-signed."""
    with pytest.raises(CorruptIndexError):
        Manifest.from_bytes(sign(body))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data[:-66],
        lambda data: data[1:],
        lambda data: b"",
        lambda data: data[:-65] + b"\r\n" + data[-65:],
        lambda data: data.replace(b'"dim": 16', b'"dim": 17'),
        lambda data: data[:-65] + data[-65:].upper(),
        lambda data: b" " * (LARGEST_MANIFEST - len(data) + 1) + data,
        lambda data: sign(b" " * LARGEST_MANIFEST + data[:-66]),
    ],
    ids=["cut", "more", "unsigned", "headless", "empty", "crlf", "changed", "upper", "large", "large and signed"],
)
def test_a_damaged_manifest_is_refused(damage):
    """The checksum covers every byte, and a file above 1 MiB is not even parsed."""
    with pytest.raises(CorruptIndexError, match=r"manifest\.json"):
        Manifest.from_bytes(damage(GOOD.to_bytes()))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("format_version",), FORMAT_VERSION + 1, f"version {FORMAT_VERSION + 1}"),
        (("format_version",), 10**9, "version 1000000000"),
        (("reader_features",), ["sparse"], "sparse"),
    ],
)
def test_a_newer_index_is_refused_by_name(path, value, named):
    """A later version or an unknown feature is IndexTooNewError naming it, whatever else the manifest holds."""
    for found in (changed(path, value), {**changed(path, value), "something": "new"}):
        with pytest.raises(IndexTooNewError, match=named):
            Manifest.from_bytes(sign(found))


def test_a_feature_of_writers_does_not_concern_readers():
    """An index that only newer versions may write to can be read, and says which features writing needs."""
    found = Manifest.from_bytes(sign(changed(("writer_features",), ["journal", "b"])))
    assert found.writer_features == ("journal", "b")
    assert Manifest.from_bytes(found.to_bytes()) == found
    for wrong in (["a"] * 65, [1], ["a", None], ["\ud800"], ["s" * 5000], {"a": 1}):
        with pytest.raises(CorruptIndexError):
            Manifest.from_bytes(sign(changed(("writer_features",), wrong)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(PATHS)), json_values)
def test_a_changed_manifest_is_equal_or_refused(name, value):
    """Whatever stands in one place, reading gives what to_bytes would write again, or one of the two errors."""
    try:
        found = Manifest.from_bytes(sign(changed(PATHS[name], value)))
    except (CorruptIndexError, IndexTooNewError):
        return
    assert Manifest.from_bytes(found.to_bytes()) == found


@given(st.binary(max_size=400))
def test_any_bytes_are_refused(body):
    """No bytes raise anything else."""
    for data in (body, sign(body)):
        with pytest.raises((CorruptIndexError, IndexTooNewError)):
            Manifest.from_bytes(data)


@pytest.mark.parametrize(
    ("nbits", "row", "encoded"), [(1, 2, True), (2, 4, True), (4, 8, True), (8, 16, True), (4, 0, False)]
)
def test_array_types_are_those_of_the_specification(nbits, row, encoded):
    """Dtype and shape of every role, as the docstring lists them."""
    manifest = example(nbits, encoded)
    base = {"positions": (I8, (10,)), "offsets": (I8, (11,)), "deleted": (U4, (2,))} | {
        "term_spelling": (U1, (40,)),
        "term_bounds": (I8, (8,)),
        "term_offsets": (I8, (8,)),
        "term_documents": (U2, (12,)),
        "term_counts": (U1, (12,)),
        "term_lengths": (U4, (10,)),
    }
    found = array_types(manifest, manifest.segments[1])
    if not encoded:
        assert found == base | {"vectors": (F2, (50, 16))}
        return
    assert found == base | {
        "codes": (U2, (50,)),
        "residuals": (U1, (50, row)),
        "scales": (F2, (50,)),
        "spreads": (U1, (50,)),
        "cells": (U4, (9,)),
        "cell_offsets": (I8, (10,)),
        "cell_documents": (U2, (60,)),
    }
    assert array_types(manifest, manifest.codec) == {
        "centroids": (F4, (64, 16)),
        "coarse": (F4, (8, 16)),
        "starts": (I8, (9,)),
        "steps": (F4, (16,)),
    }


@pytest.mark.parametrize(
    ("nbits", "compressed", "raw_dtype"), [(1, True, F2), (8, True, F2), ("float16", False, F2), ("float32", False, F4)]
)
def test_a_vector_format_says_how_vectors_are_stored(nbits, compressed, raw_dtype):
    """Numbers of bits are compressed and float16 until there is a codec; names of dtypes stay raw."""
    vector_format = VectorFormat(nbits)
    assert VectorFormat.allows(nbits)
    assert (vector_format.is_compressed, vector_format.raw_dtype) == (compressed, raw_dtype)
    assert not compressed or vector_format.bits == nbits


@pytest.mark.parametrize("nbits", [0, 3, 16, 4.0, True, "4", "int8", None, np.float32, [4]])
def test_other_vector_formats_are_not_allowed(nbits):
    """Neither other numbers, nor numbers of another type, nor other names."""
    assert not VectorFormat.allows(nbits)


def test_wide_lists_and_float32_vectors():
    """Lists of more than 65,536 documents take uint32 rows; nbits "float32" keeps float32."""
    assert array_types(GOOD, replace(GOOD.segments[0], n_docs=2**16 + 1))["cell_documents"][0] == U4
    assert array_types(GOOD, replace(GOOD.segments[0], n_docs=2**16))["cell_documents"][0] == U2
    assert array_types(GOOD, replace(GOOD.segments[0], n_docs=2**16 + 1))["term_documents"][0] == U4
    manifest = example("float32", encoded=False)
    assert array_types(manifest, manifest.segments[0])["vectors"] == (F4, (100, 16))


@pytest.mark.parametrize("dtype", [F2, F4, I8, U1, U2, U4], ids=str)
@pytest.mark.parametrize("shape", [(1,), (0,), (3, 5), (2**40, 4096), (123456789,)])
def test_the_header_is_numpys(tmp_path, dtype, shape):
    """np.save writes the same header, which is a multiple of 64 bytes long, whatever the numbers."""
    header = npy_header((dtype, shape))
    assert len(header) % 64 == 0
    assert header.startswith(b"\x93NUMPY\x01\x00")
    if math.prod(shape) < 1000:
        np.save(tmp_path / "a.npy", np.zeros(shape, dtype))
        assert (tmp_path / "a.npy").read_bytes().startswith(header)


def test_the_manifests_own_copy_sorts_by_generation():
    """At least eight digits, more when there are more generations."""
    assert manifest_copy_name(7) == "00000007-manifest.json"
    assert manifest_copy_name(123456789) == "123456789-manifest.json"
