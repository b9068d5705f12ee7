"""The page: what the command found goes between markers, the words around them are written by hand.

<!-- compare:NAME -->
... replaced ...
<!-- /compare:NAME -->
"""

import re
from collections.abc import Mapping

from refcolbert.errors import InvalidInput

__all__ = ["fill"]


def fill(text: str, sections: Mapping[str, str]) -> str:
    """The page with every section between its markers. Raises `InvalidInput` for a section without a place."""
    for name, content in sections.items():
        begin, end = f"<!-- compare:{name} -->", f"<!-- /compare:{name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        filled = f"{begin}\n{content}\n{end}"
        text, count = pattern.subn(lambda _, filled=filled: filled, text)  # type: ignore[misc]
        if count != 1:
            raise InvalidInput(f"expected the markers {begin} and {end} once in the page, found them {count} times")
    return text
