"""The document about adapters is true: its snippets run, in order, in one session."""

import re
from pathlib import Path

DOCUMENT = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text()


def test_every_snippet_runs(tmp_path, monkeypatch, encoder):
    """Each Python block runs with the tiny model as the default, and the run that is written is one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("refcolbert.encoding.encoder.default_model_folder", lambda: encoder.folder)
    session = {}
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) == 9
    for block in blocks:
        exec(compile(block, "adapters.md", "exec"), session)  # noqa: S102 - our own document
    assert [hit.id for hit in session["answers"][0]] == list(session["run"]["q1"])
    assert len(Path("answers.trec").read_text().splitlines()) == 4
