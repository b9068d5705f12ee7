"""Adapters of the conformance suite, one an engine: `pytest tests/conformance --impl tools.conformance.NAME`."""
