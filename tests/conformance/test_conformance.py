"""Every case of the suite, run against each implementation chosen with --impl."""

import pytest

from .registry import NotOffered, calls_of, load


def test_case(implementation_name, conformance_case, record, reproducers, max_examples):
    """An implementation that offers the functions of a case behaves as the case states."""
    __tracebackhide__ = lambda error: not error.errisinstance(pytest.skip.Exception)  # noqa: E731 - pytest reads it
    results = record.setdefault(implementation_name, {})
    implementation = load(implementation_name)
    try:
        conformance_case.check(implementation, max_examples)
    except NotOffered as missing:
        results[conformance_case.name] = "not offered", str(missing)
        pytest.skip(f"{implementation_name}: not offered: {missing}")
    except Exception as error:
        results[conformance_case.name] = "failed", f"{type(error).__name__}: {error}".splitlines()[0][:200]
        reproducers.extend(calls_of(error))
        raise
    results[conformance_case.name] = "passed", ""
