"""Crashes, full disks, damage and attacks on an index, made on purpose. `python -m tools.faults` runs all of them."""
