"""The size of the code that the documents state."""

import re

from tools import ROOT
from tools.release import code_size

CLAIM = re.compile(r"encoding/ and engine/ are [\d,]+ lines, definition\.py [\d,]+")


def test_lines_are_counted(tmp_path):
    """Python files of a folder and its subfolders count, other files do not."""
    (tmp_path / "inner").mkdir()
    for name, text in (("a.py", "x\ny\n"), ("inner/b.py", "z\n"), ("c.md", "no\n")):
        (tmp_path / name).write_text(text)
    assert code_size.lines(tmp_path) == code_size.lines(tmp_path / "a.py", tmp_path / "inner") == 3


def test_the_documents_state_the_true_size():
    """README.md or a page of docs/ has the sentence that the command prints, and none has another size."""
    texts = [path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
    claims = {" ".join(claim.split()) for text in texts for claim in CLAIM.findall(re.sub(r"[\s`*]+", " ", text))}
    assert claims == {code_size.sentence()}, "python -m tools.release.code_size"
