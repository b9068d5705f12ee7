"""Conformance cases for any ColBERT engine. README.md says how to point them at yours."""

from .registry import load, reproduce

__all__ = ["load", "reproduce"]
