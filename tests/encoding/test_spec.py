"""EncodingSpec: JSON both ways, and a typed error for every value that could not be followed."""

import json
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import EncodingSpec
from refcolbert.encoding.spec import RARE, SPEC_VERSION
from refcolbert.errors import InvalidModel

ids = st.integers(0, 1 << 20)
frames = st.lists(ids, max_size=3).map(tuple)
skiplists = st.sets(ids, max_size=5).map(lambda ids: tuple(sorted(ids)))
prompts = st.text(max_size=10)


@st.composite
def specs(draw):
    """A valid spec."""
    query_length = draw(st.integers(6, 512))
    return EncodingSpec(
        dim=draw(st.integers(1, 1024)),
        query_length=query_length,
        document_length=draw(st.integers(6, 512)),
        query_prefix_ids=draw(frames),
        query_suffix_ids=draw(frames),
        document_prefix_ids=draw(frames),
        document_suffix_ids=draw(frames),
        pad_id=draw(ids),
        expansion_id=draw(st.none() | ids),
        expansion_length=draw(st.none() | st.integers(1, query_length)),
        expansion_attended=draw(st.booleans()),
        pad_expands=draw(st.booleans()),
        skiplist=draw(skiplists),
        query_skiplist=draw(skiplists),
        query_prompt=draw(prompts),
        document_prompt=draw(prompts),
        strip=draw(st.booleans()),
        lowercase=draw(st.booleans()),
        marker_second=draw(st.booleans()),
        drop_first=draw(st.booleans()),
    )


SPEC = EncodingSpec(
    dim=16,
    query_length=8,
    document_length=12,
    query_prefix_ids=(4, 1),
    query_suffix_ids=(5,),
    document_prefix_ids=(4, 2),
    document_suffix_ids=(5,),
    pad_id=0,
    expansion_id=6,
    skiplist=(7, 9),
)

NOT_A_COUNT = [0, -1, 1.0, True, "1", None, (1,)]
NOT_AN_ID = [-1, 1.0, True, "1", (1,)]
NOT_IDS = [None, 5, [5], (-1,), (1.0,), (True,), ("a",), ((1,),)]
NOT_ASCENDING = [(3, 2), (2, 2)]
REJECTED = {
    "dim": NOT_A_COUNT,
    "query_length": [*NOT_A_COUNT, 2],
    "document_length": [*NOT_A_COUNT, 2],
    "query_prefix_ids": [*NOT_IDS, (1,) * 8],
    "query_suffix_ids": [*NOT_IDS, (1,) * 8],
    "document_prefix_ids": [*NOT_IDS, (1,) * 12],
    "document_suffix_ids": [*NOT_IDS, (1,) * 12],
    "pad_id": [*NOT_AN_ID, None],
    "expansion_id": NOT_AN_ID,
    "expansion_length": [0, -1, 1.0, True, "1", 9],
    "expansion_attended": [0, 1, None, "yes"],
    "pad_expands": [0, 1, None, "yes"],
    "skiplist": [*NOT_IDS, *NOT_ASCENDING],
    "query_skiplist": [*NOT_IDS, *NOT_ASCENDING],
    "query_prompt": [None, 1, b"query: "],
    "document_prompt": [None, 1, b"passage: "],
    "strip": [0, 1, None, "yes"],
    "lowercase": [0, 1, None, "yes"],
    "marker_second": [0, 1, None, "yes"],
    "drop_first": [0, 1, None, "yes"],
}


@given(specs())
def test_json_gives_the_same_spec_back(spec):
    """from_json reads the text of to_json, and equal specs give equal text."""
    again = EncodingSpec.from_json(spec.to_json())
    assert again == spec
    assert again.to_json() == spec.to_json()
    assert hash(again) == hash(spec)


def test_json_names_every_field_and_its_version():
    """Nothing is left out because it has its default, except for the rare switches."""
    every = {"spec_version", *(f.name for f in fields(EncodingSpec))}
    assert set(json.loads(SPEC.to_json())) == every - set(RARE)
    assert set(json.loads(replace(SPEC, **dict.fromkeys(RARE, True)).to_json())) == every
    assert json.loads(SPEC.to_json())["spec_version"] == SPEC_VERSION


def test_the_table_of_rejections_covers_every_field():
    """A new field needs its line in REJECTED."""
    assert set(REJECTED) == {field.name for field in fields(EncodingSpec)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REJECTED.items() for value in values])
def test_a_value_that_cannot_be_followed_is_rejected(name, value):
    """The constructor names the field when its value has another type or lies out of range."""
    with pytest.raises(InvalidModel, match=name.split("_")[0]):
        replace(SPEC, **{name: value})


def test_a_frame_may_fill_the_whole_length():
    """A length that holds prefix and suffix and nothing else is valid, one less is not."""
    assert replace(SPEC, query_length=3).query_length == 3
    with pytest.raises(InvalidModel, match="at least the 3 ids"):
        replace(SPEC, query_length=2)


@pytest.mark.parametrize("name", sorted(set(REJECTED) - set(RARE)))
def test_a_missing_key_is_rejected(name):
    """from_json never fills in a default: it names the missing key."""
    values = json.loads(SPEC.to_json())
    del values[name]
    with pytest.raises(InvalidModel, match=rf"missing keys \['{name}'\]"):
        EncodingSpec.from_json(json.dumps(values))


def test_an_unknown_key_is_rejected():
    """A switch that this version does not know cannot be ignored."""
    values = {**json.loads(SPEC.to_json()), "colour": "blue"}
    with pytest.raises(InvalidModel, match=r"unknown keys \['colour'\]"):
        EncodingSpec.from_json(json.dumps(values))


@pytest.mark.parametrize("version", [SPEC_VERSION + 1, SPEC_VERSION - 1, "1", None])
def test_another_version_is_rejected(version):
    """The message names the version that can be read and the one found."""
    values = {**json.loads(SPEC.to_json()), "spec_version": version}
    with pytest.raises(InvalidModel, match=f"spec_version {SPEC_VERSION}, found {version!r}"):
        EncodingSpec.from_json(json.dumps(values))


@pytest.mark.parametrize(("name", "value"), [("dim", True), ("skiplist", "abc"), ("pad_id", None), ("strip", 0)])
def test_a_value_of_another_type_in_json_is_rejected(name, value):
    """JSON gets the same checks as the constructor."""
    with pytest.raises(InvalidModel, match=name):
        EncodingSpec.from_json(json.dumps({**json.loads(SPEC.to_json()), name: value}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{}", "[" * 100_000], ids=range(7))
def test_text_that_is_not_a_spec_is_rejected(text):
    """Damaged JSON, and JSON of another kind, is an InvalidModel."""
    with pytest.raises(InvalidModel):
        EncodingSpec.from_json(text)


@pytest.mark.parametrize("name", ["query_prompt", "document_prompt"])
def test_a_prompt_that_cannot_be_encoded_is_rejected(name):
    """A lone surrogate in a prompt would fail at the first text."""
    values = {**json.loads(SPEC.to_json()), name: "\ud800"}
    with pytest.raises(InvalidModel, match=name):
        EncodingSpec.from_json(json.dumps(values))


def test_a_spec_is_immutable():
    """No field can be assigned."""
    with pytest.raises(FrozenInstanceError):
        SPEC.dim = 3
