"""Which texts go through a transformer together, so that little is padded."""

from collections.abc import Sequence

__all__ = ["by_length"]

# A group is closed for texts that much shorter than its longest once it holds so many tokens: then another run of the
# transformer costs less than the padding.
SHORTER, ENOUGH_TOKENS = 7 / 8, 512


def by_length(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Positions, longest first, in groups of similar length: at most `most` tokens with padding, or one text."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[groups[-1][0]] if groups else 0
        full = not groups or (len(groups[-1]) + 1) * longest > most
        if full or (lengths[i] < SHORTER * longest and len(groups[-1]) * longest >= ENOUGH_TOKENS):
            groups.append([])
        groups[-1].append(i)
    return groups
