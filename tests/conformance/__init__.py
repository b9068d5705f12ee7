"""Conformance cases for any ColBERT engine. README.md says how to run them against yours."""

from .registry import load, reproduce

__all__ = ["load", "reproduce"]
