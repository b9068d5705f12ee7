"""Checks of the exporter that are too long for the tests."""
