"""What can go wrong with an index on disk, made to go wrong on purpose. `python -m tools.crashlab` runs it all."""
