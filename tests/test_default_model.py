"""The models that the package brings along: small, proved, described, and of some use."""

import json
import re

import pytest

from refcolbert import Encoder, Index
from refcolbert.cli.demo import DEMO_QUESTIONS
from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings
from refcolbert.encoding.encoder import MODEL_FILES, default_model_folder, small_model_folder

PACKAGED = [
    pytest.param(default_model_folder(), "int8", 25_200_000, id="default"),
    pytest.param(small_model_folder(), "int8-int4", 13_200_000, id="small"),
]
DOCUMENTS = [
    "datetime.strptime turns a string into a date by a format",
    "csv.reader gives each row of a file as a list",
    "The boundary layer on a heated plate becomes turbulent early",
    "Gout is a kind of arthritis: crystals of uric acid form in the joints",
    "statistics.median finds the middle value of numbers",
]
QUESTIONS = ["how do I parse a date", "read a spreadsheet line by line", "flow over a hot wing", "my toe is swollen"]


@pytest.fixture(scope="module")
def model():
    """The default model."""
    return Encoder.load()


@pytest.mark.parametrize(("folder", "variant", "largest"), PACKAGED)
def test_the_package_holds_a_model_and_what_proves_it(folder, variant, largest):
    """A folder has the model's files, parity report and card, nothing else; both speak of these files."""
    assert {path.name for path in folder.iterdir()} == {*MODEL_FILES, "parity.json", "README.md"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= largest
    model = Encoder.load(folder)
    report, card = json.loads((folder / "parity.json").read_text()), (folder / "README.md").read_text()
    assert report["model"] == model.hash
    assert model.hash in card
    assert (report["variant"], report["worst"]["min_cosine"] >= 0.999) == (variant, True)
    assert re.search(r"of [\d,]+ training texts none equals one of [\d,]+ titles, texts and queries", card)


@pytest.mark.parametrize("name", [None, "small"])
def test_it_answers_in_other_words_than_asked(name, tmp_path):
    """Questions that share hardly a word with their answers find them first."""
    index = Index.create(tmp_path / "index", Encoder.load(name))
    index.add(DOCUMENTS)
    assert [index.search(question, 1)[0].id for question in QUESTIONS] == ["0", "1", "2", "3"]


def test_the_questions_of_the_demo_find_their_answers_first(model, tmp_path):
    """Among the docstrings of the answers' modules, which are the nearest rivals, the right one is first."""
    answers = ["secrets", "webbrowser.open", "smtplib.SMTP.send_message", "statistics.median"]
    modules = {"random", *(answer.partition(".")[0] for answer in answers)}
    index = Index.create(tmp_path / "index", model)
    index.add([document for document in standard_library_docstrings() if document.metadata["module"] in modules])
    found = [index.search(question, 1)[0].id for question in DEMO_QUESTIONS]
    assert found == answers


def test_a_new_index_takes_it_and_names_it_by_its_hash(model, tmp_path):
    """Without a model named, an index is made with the default one, and opened again finds it by itself."""
    with Index.create(tmp_path / "index") as index:
        index.add(DOCUMENTS)
        assert index.info()["encoder"] == {"hash": model.hash, "source": None}
    with Index.open(tmp_path / "index") as index:
        assert index.search("parse a date", 1)[0].id == "0"
