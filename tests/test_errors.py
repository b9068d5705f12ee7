"""The error tree: the classes are those that the module docstring draws."""

import inspect
import pickle
import re

import pytest

from refcolbert import errors
from refcolbert.errors import MissingDependency, RefColbertError, UnknownId

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
}
BUILT_IN = {"ValueError": ValueError, "KeyError": KeyError, "ImportError": ImportError}


def drawn():
    """Class name -> the names of its bases, as the docstring draws them."""
    tree, path = {}, []
    for line in errors.__doc__.splitlines():
        drawn_class = re.match(r"^( {4}[│ ]*(?:[├└]── )?)([A-Z]\w+)(?: \((\w+)\))?", line)
        if drawn_class:
            depth = (len(drawn_class[1]) - 4) // 4
            path = [*path[:depth], drawn_class[2]]
            parent = path[depth - 1] if depth else "Exception"
            tree[drawn_class[2]] = [parent, drawn_class[3]] if drawn_class[3] else [parent]
    return tree


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    """The drawing names every class, under its base and beside the built-in one it also is."""
    assert drawn() == {name: [base.__name__ for base in cls.__bases__] for name, cls in CLASSES.items()}


def test_every_class_is_exported():
    """__all__ lists exactly the classes, in order."""
    assert errors.__all__ == sorted(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_can_be_caught_at_the_root(name):
    """Each class descends from RefColbertError and has a docstring."""
    assert issubclass(CLASSES[name], RefColbertError)
    assert CLASSES[name].__doc__.endswith(".")


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_an_error_keeps_its_message(name):
    """str() gives the message as it was passed, also after pickling, for every class."""
    error = CLASSES[name]("expected 'a', found 'b'")
    assert str(error) == "expected 'a', found 'b'"
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy)) == (CLASSES[name], "expected 'a', found 'b'")


@pytest.mark.parametrize(
    ("cls", "built_in"),
    [(errors.InvalidInput, "ValueError"), (UnknownId, "KeyError"), (MissingDependency, "ImportError")],
)
def test_the_usual_built_in_error_catches_ours(cls, built_in):
    """An except clause for the usual built-in error catches ours."""
    with pytest.raises(BUILT_IN[built_in]):
        raise cls("found nothing")
