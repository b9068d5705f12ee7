"""One engine a module, each run in the environment that has it: python -m tools.bench.peers.NAME STAGE JOB.

They import numpy, the engine and `protocol`, nothing else.
"""
