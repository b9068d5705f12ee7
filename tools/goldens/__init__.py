"""Goldens with provenance: what makes them (`suites`), how they are kept, compared and checked (`files`)."""
