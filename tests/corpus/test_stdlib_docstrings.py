"""Docstrings of a small made-up standard library, whose every docstring is known."""

import sysconfig

import pytest

from refcolbert.corpus.stdlib_docstrings import LEAST_CHARACTERS, standard_library_docstrings

LONG = "This sentence is long enough to say something on its own."

LIBRARY = {
    "zoo.py": f'''"""Zoo. {LONG}"""


class Animal:
    """Animal. {LONG}

        indented
    to here
    """

    def feed(self):
        """Feed. {LONG}"""

    async def wait(self):
        """Wait. {LONG}"""

    def _private(self):
        """Private. {LONG}"""

    def short(self):
        """See above."""

    class Inner:
        """Inner. {LONG}"""


def _hidden():
    """Hidden. {LONG}"""


def silent():
    return "{LONG}"
''',
    "pack/__init__.py": f'"""Pack. {LONG}"""\nraise SystemExit("sources are parsed, never imported")\n',
    "pack/deep.py": f'def f():\n    """F. {LONG}"""\n',
    "pack/_inside.py": f'"""Inside. {LONG}"""\n',
    "_secret.py": f'"""Secret. {LONG}"""\n',
    "test/test_zoo.py": f'"""Test. {LONG}"""\n',
    "site-packages/other.py": f'"""Other. {LONG}"""\n',
    "broken.py": f'"""Broken. {LONG}"""\ndef f(:\n',
    "nul.py": "x = '\0'\n",
    "latin.py": b'# -*- coding: latin-1 -*-\n"""Latin caf\xe9. ' + LONG.encode() + b'"""\n',
}


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The documents of the made-up library."""
    for name, source in LIBRARY.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    return standard_library_docstrings()


def test_public_docstrings_are_documents_in_order_of_their_names(library):
    """Public modules, classes, functions and methods come by qualified name; private, short and broken ones do not."""
    assert [d.id for d in library] == [
        "latin",
        "pack",
        "pack.deep.f",
        "zoo",
        "zoo.Animal",
        "zoo.Animal.Inner",
        "zoo.Animal.feed",
        "zoo.Animal.wait",
    ]


def test_a_document_holds_name_docstring_and_module(library):
    """The text is the name and the docstring without its indentation, the metadata the module."""
    animal = next(d for d in library if d.id == "zoo.Animal")
    assert animal.text == f"zoo.Animal: Animal. {LONG}\n\n    indented\nto here"
    assert animal.metadata == {"module": "zoo"}


def test_a_source_file_is_read_in_its_own_encoding(library):
    """A coding line in a source file decides its encoding."""
    assert library[0].text.startswith("latin: Latin café.")


@pytest.mark.parametrize(("length", "kept"), [(LEAST_CHARACTERS - 1, []), (LEAST_CHARACTERS, ["m"])])
def test_a_docstring_too_short_to_say_anything_is_left_out(tmp_path, monkeypatch, length, kept):
    """A docstring of LEAST_CHARACTERS is kept, a shorter one is not."""
    (tmp_path / "m.py").write_text(f'"""{"x" * length}"""')
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert [d.id for d in standard_library_docstrings()] == kept
