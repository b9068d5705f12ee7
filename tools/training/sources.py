"""The texts that the default model may be trained on: each with its licence and how a (query, document) is read.

Only what permits redistribution of a model trained on it is listed. Sets that are non-commercial, share-alike or for
research alone have no entry, so no command of this package can read them.
"""

import gzip
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings
from refcolbert.errors import InvalidInput

__all__ = ["SOURCES", "Source", "read_gzip"]

Extras = dict[str, str]  # "identifier": a dotted name or command; "error": a message that the document explains
Rows = Iterator[tuple[str, str, Extras]]

CC_BY_SINCE = 2016  # the anthology's statement: CC BY-NC-SA 3.0 before, CC BY 4.0 from this year on
# The statement does not cover third parties. The set names no venue, but its rows are in the order of the anthology's
# files: these (from 0) are LREC 2020 and 2016, of ELRA and CC BY-NC.
OF_OTHERS = (range(5655, 6556), range(20292, 21035))
SHORTEST_DOCUMENT = 100  # characters; shorter ones answer no query
PACKAGING = re.compile(r"transitional|dummy package|metapackage|packaged by debcargo|debug symbols", re.IGNORECASE)
BOILERPLATE = re.compile(r"These resources address|The Human Phenotype Ontology provides")


@dataclass(frozen=True, slots=True)
class Source:
    """One set of texts. `read` takes the folder of training pairs; a set that is optional may have no file there."""

    name: str
    licence: str
    origin: str
    read: Callable[[Path], Rows]
    optional: bool = False


def read_gzip(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", object) of each line of a gzipped JSONL file. Raises `InvalidInput` naming file and line."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name}:{number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise InvalidInput(f"{where}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise InvalidInput(f"{where}: expected one JSON object, found {type(record).__name__}")
            yield where, record


def _pairs(folder: Path, name: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for where, record in read_gzip(folder / f"{name}.jsonl.gz"):
        query, positive = record.get("query"), record.get("positive")
        if not isinstance(query, str) or not isinstance(positive, str):
            raise InvalidInput(f"{where}: expected strings 'query' and 'positive'")
        yield query, positive, record


def _debian(folder: Path) -> Rows:
    """Synopsis -> description, without packages that only pull in others and without generated descriptions."""
    for query, positive, _ in _pairs(folder, "debian_synopsis_description"):
        if not PACKAGING.search(query) and not PACKAGING.search(positive):
            yield query, positive, {}


def _medquad(folder: Path) -> Rows:
    """Question -> answer; "What is (are)" becomes "What is"; answers that are a list of links or codes are left out."""
    for query, positive, _ in _pairs(folder, "medquad"):
        if not BOILERPLATE.search(positive):
            yield query.replace("is (are)", "is"), positive, {}


def _acl(folder: Path) -> Rows:
    """Title -> abstract, of the years under CC BY alone, without LREC."""
    for row, (query, positive, record) in enumerate(_pairs(folder, "acl_title_abstract")):
        of_acl = not any(row in rows for rows in OF_OTHERS)
        if of_acl and isinstance(record.get("year"), int) and record["year"] >= CC_BY_SINCE:
            yield query, positive, {}


def _docstrings(_folder: Path) -> Rows:
    """First paragraph -> the rest, of each docstring that has both."""
    for document in standard_library_docstrings():
        _, _, text = (document.text or "").partition(": ")
        first, _, rest = text.partition("\n\n")
        if first and rest:
            yield first, rest, {}


def _made(name: str, licence: str, origin: str) -> Source:
    """Return the source of a file that `tools.training.texts` writes."""

    def read(folder: Path) -> Rows:
        for query, positive, record in _pairs(folder, name):
            yield query, positive, {key: str(record.get(key) or "") for key in ("identifier", "error")}

    return Source(name, licence, origin, read, optional=True)


SOURCES = (
    Source(
        "debian_synopsis_description",
        "each under its package's free licence (Debian main, DFSG-free)",
        "Debian bookworm main, i18n/Translation-en",
        _debian,
    ),
    Source(
        "medquad",
        "CC BY 4.0",
        "MedQuAD (Ben Abacha and Demner-Fushman 2019), questions and answers of NIH sites",
        _medquad,
    ),
    Source("acl_title_abstract", "CC BY 4.0", f"ACL Anthology, papers of {CC_BY_SINCE} and later, without LREC", _acl),
    Source(
        "python_docstrings",
        "Python Software Foundation License 2",
        f"docstrings of the standard library of Python {sys.version_info.major}.{sys.version_info.minor}",
        _docstrings,
    ),
    _made(
        "article_abstracts",
        "CC BY or CC0, each article by its own statement",
        "titles and abstracts of open-access articles (PLOS, BMC, Frontiers, MDPI and others) in JATS XML",
    ),
    _made(
        "article_sections",
        "CC BY or CC0, each article by its own statement",
        "headings and sections of the same articles",
    ),
    _made(
        "arxiv_title_abstract", "CC0 1.0 (arXiv's metadata)", "arXiv, titles and abstracts, most of machine learning"
    ),
    _made("python_peps", "public domain or CC0 1.0, each by its own statement", "Python Enhancement Proposals"),
    _made("python_documentation", "Python Software Foundation License 2", "documentation of Python 3.11"),
    _made(
        "debian_manuals",
        "each under its package's free licence (Debian main, DFSG-free), none GFDL or Creative Commons",
        "Debian bookworm main, manual pages of the packages in tools/training/packages.txt",
    ),
    _made(
        "package_docstrings",
        "BSD, MIT, Apache 2.0, ISC, PSF or Biopython's, each package's own",
        "docstrings of the packages in tools/training/packages.txt",
    ),
)
