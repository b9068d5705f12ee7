"""The objects of one index at a URL, as fsspec reaches them: s3://, gs://, file://, memory:// and others.

Only this module uses fsspec. It knows names of objects and no order between them; that is in `remote`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import IndexFileError, IndexNotFound, IndexWriteError, InvalidInput, MissingDependency
from .format import LARGEST_MANIFEST, FileEntry, Manifest
from .store import DATA, MANIFEST

__all__ = ["ObjectGoneError", "Objects"]


class ObjectGoneError(IndexFileError):
    """A data object that a manifest names does not exist."""


class Objects:
    """The objects below a URL. Made anew for each operation, because a forked child cannot use those of its parent."""

    def __init__(self, url: str) -> None:
        """Raises `MissingDependency` without fsspec, or without the package that it needs for this protocol."""
        self.url = url.rstrip("/")
        self._is_local = url.startswith(("file:", "local:"))
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise MissingDependency(f"{url} needs fsspec: pip install 'refcolbert[remote]'") from error
        try:
            self._files, self._root = url_to_fs(self.url, **({"auto_mkdir": True} if self._is_local else {}))
        except ImportError as error:
            raise MissingDependency(f"{url} needs one more package: {error}") from error
        except ValueError as error:
            raise InvalidInput(f"expected a URL that fsspec knows, found {url}: {error}") from error
        # fsspec remembers what this process listed earlier.
        self._files.invalidate_cache()

    def below(self, name: str) -> "Objects":
        """Return the objects of the shard `name`, or these for an empty name."""
        return Objects(f"{self.url}/{name}") if name else self

    def read(self, name: str, most: int) -> bytes | None:
        """Return an object, cut after `most` + 1 bytes, or None if it does not exist."""
        with self._reading(name):
            try:
                content: bytes = self._files.cat_file(f"{self._root}/{name}", start=0, end=most + 1)
            except FileNotFoundError:
                return None
        return content

    def manifest(self) -> Manifest | None:
        """Return the manifest of the current generation, or None."""
        content = self.read(MANIFEST, LARGEST_MANIFEST)
        with self.naming():
            return None if content is None else Manifest.from_bytes(content)

    def published(self) -> Manifest:
        """Return the manifest of the current generation. Raises `IndexNotFound`."""
        manifest = self.manifest()
        if manifest is None:
            raise IndexNotFound(f"there is no index at {self.url}; publish one with snapshot")
        return manifest

    def sizes(self) -> dict[str, int]:
        """Return name -> bytes of the objects in data/."""
        with self._reading(DATA):
            found = self._files.find(f"{self._root}/{DATA}", detail=True)
        return {path.rpartition("/")[2]: info["size"] for path, info in found.items()}

    def names(self) -> list[str]:
        """Return the names below the URL that have objects below them, such as those of shards."""
        with self._reading(""):
            try:
                found = self._files.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return [info["name"].rstrip("/").rpartition("/")[2] for info in found if info["type"] == "directory"]

    def fetch(self, entry: FileEntry, path: Path) -> None:
        """Fill a local file with a data file. In a folder that other programs copied there, it has its own name."""
        for name in (entry.sha256, entry.name):
            with self._reading(f"{DATA}/{entry.name}"):
                try:
                    self._files.get_file(f"{self._root}/{DATA}/{name}", str(path))
                except FileNotFoundError:
                    continue
            return
        raise ObjectGoneError(
            f"{DATA}/{entry.sha256}: expected the bytes of {entry.name}, found nothing; publish it again"
        )

    def send(self, name: str, path: Path) -> None:
        """Write an object of data/ from a local file."""
        with self._writing(f"{DATA}/{name}", "what was published before is unchanged"):
            self._files.put_file(str(path), f"{self._root}/{DATA}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Write an object in one step. That takes a rename where objects are the files of this machine."""
        with self._writing(name, "it is unchanged, or new as a whole"):
            if self._is_local:
                self._files.pipe_file(f"{self._root}/{name}.tmp", content)
                self._files.mv(f"{self._root}/{name}.tmp", f"{self._root}/{name}")
            else:
                self._files.pipe_file(f"{self._root}/{name}", content)

    def remove(self, name: str) -> None:
        """Remove an object of data/."""
        with self._writing(f"{DATA}/{name}", "repeat the call"):
            self._files.rm_file(f"{self._root}/{DATA}/{name}")

    def clear(self) -> None:
        """Remove the index. Its manifest is the first to go: without it, a part of the rest is no index."""
        with self._writing("", "repeat the call"):
            if self._files.exists(f"{self._root}/{MANIFEST}"):
                self._files.rm_file(f"{self._root}/{MANIFEST}")
            self._files.rm(self._root, recursive=True)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Begin the message of an error in the index with the URL."""
        try:
            yield
        except IndexFileError as error:
            raise type(error)(f"{self.url}: {error}") from error

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise IndexFileError(f"{self.url}/{name} could not be read ({error}); check your access to it") from error

    @contextmanager
    def _writing(self, name: str, consequence: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise IndexWriteError(f"{self.url}/{name} could not be written ({error}); {consequence}") from error
