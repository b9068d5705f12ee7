"""What can go wrong with an index on disk, made to go wrong on purpose. `python -m tools.faults` runs it all."""
