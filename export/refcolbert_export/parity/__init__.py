"""The parity check: the same checkpoint by a second path that shares no reader with the first.

Read in this order:

    awkward_texts  the texts on which implementations differ
    reference      the second path: transformers' own loading, the head from raw tensors
    origins        encoding as in each original package, for the second path
    report         the comparison, its limits, and the later check without torch
    drift          what both paths share and another release may do otherwise; vectors of the author

It may import the core, `tensors` and `layouts.overrides`, but no reader. `report` imports no torch. The names are not
an API.
"""
