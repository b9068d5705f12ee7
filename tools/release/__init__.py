"""Sizes and generated pages, checked before a release."""
