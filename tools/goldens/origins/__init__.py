"""Scripts that run an original ColBERT implementation in its own environment. See `tools.goldens`."""
