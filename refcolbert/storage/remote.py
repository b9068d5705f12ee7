"""Indexes at URLs: how one is published without rename and locks, and read through a cache.

A URL has no locks and no copies of manifests, and the name of a data file is its SHA-256 in lower-case hex:

    manifest.json    as in a folder (`format`)
    data/SHA256      the data files of the current generation, and of earlier ones
    shards.json      in place of these for a sharded index (`shards`); each shard is an index at URL/NAME

A reader also accepts a data file under its name in a folder, so that a folder can be copied to a store as it is.

An object store replaces one object in one step. It has no rename, and no lock. So `publish_at` sends data files first,
then the manifests, and shards.json last. Nobody replaces an object of data/ by other bytes, and only `prune` removes
one. Therefore:

- An interrupted publisher leaves what was published before, or nothing. The same call, repeated, sends only the files
  that are missing.
- A reader fetches the generation whose manifest it read, whatever is published meanwhile. If that generation is pruned
  meanwhile, the reader begins again with the current one.
- If two publish at the same time, the manifest that is written last counts, and its index is complete. The other
  publisher gets `IndexLocked` if it sees the change before it writes its own manifest, and otherwise does not learn of
  it. So there should be one publisher, which also prunes.
- Each shard changes in one step. Several shards do not.

The cache has one ordinary index folder per URL, written and locked like any other (`store`). Every file is compared
with its hash when it arrives, so a copy is exact. The files of a generation that is open stay there, as in any index.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from ..errors import CorruptIndexError, IndexExists, IndexLocked, IndexNotFound, InvalidInput
from .format import FileEntry, Manifest
from .locks import Pin
from .objects import ObjectGoneError, Objects
from .shards import LARGEST_SHARDS, SHARDS, is_sharded, list_of, parse_shards, read_shards
from .store import MANIFEST, Store

__all__ = [
    "RemoteStore",
    "cache_folder",
    "check_free",
    "download",
    "is_sharded_at",
    "is_url",
    "list_shards_at",
    "local_path",
    "prune",
    "publish_at",
    "shard_stores",
    "store_at",
    "upload",
]

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
DATA_OBJECT = re.compile(r"[0-9a-f]{64}")
TRANSFERS = 8  # at a time: most of a small file's time is waiting
LOCK_WAIT_SECONDS = 0.05


# ---- Paths that may be URLs


def is_url(path: object) -> TypeGuard[str]:
    """Return True for a text that begins with a protocol, such as s3:// or memory://."""
    return isinstance(path, str) and URL.match(path) is not None


def local_path(path: str | Path) -> Path:
    """Return the path of a folder to write to. Raises `InvalidInput` for a URL."""
    if is_url(path):
        raise InvalidInput(f"expected a folder, found {path}; make the index in a folder, then use snapshot({path!r})")
    return Path(path)


def store_at(path: str | Path) -> Store:
    """Return the store of the index at a path or URL."""
    return RemoteStore(path, cache_folder(path)) if is_url(path) else Store(Path(path))


def is_sharded_at(path: str | Path) -> bool:
    """Return True if a folder or URL holds a sharded index."""
    return Objects(path).read(SHARDS, LARGEST_SHARDS) is not None if is_url(path) else is_sharded(Path(path))


def shard_stores(path: str | Path) -> tuple[Path, dict[str, Store]]:
    """Return the folder of the sharded index at a path or URL, and the stores of its shards by name, in their order."""
    if not is_url(path):
        folder = Path(path).absolute()
        return folder, {name: Store(folder / name) for name in read_shards(folder)}
    top, folder = Objects(path), cache_folder(path)
    content = top.read(SHARDS, LARGEST_SHARDS)
    if content is None:
        raise IndexNotFound(f"there is no sharded index at {path}; publish one with snapshot")
    with top.naming():
        return folder, {name: RemoteStore(f"{top.url}/{name}", folder / name) for name in parse_shards(content)}


class RemoteStore(Store):
    """The index at a URL. It is read through its copy in a folder of the cache, and cannot be written."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(folder)
        self.url = url

    @property
    def source(self) -> str:
        """The URL, because another process may be on another machine."""
        return self.url

    def read(self) -> Manifest:
        """Return the manifest that is published."""
        return Objects(self.url).published()

    def fetch(self, file: FileEntry, path: Path) -> None:
        """Fill a local file, outside the cache, with one data file."""
        Objects(self.url).fetch(file, path)

    def pin(self) -> tuple[Manifest, Pin]:
        """Fetch what is new, then pin the copy."""
        _bring(self.url, self.path)
        return super().pin()

    def writing(self, *, new: bool = False) -> NoReturn:
        """Raise `InvalidInput`."""
        raise InvalidInput(f"expected an index in a folder, found {self.url}; change the original and publish it again")


# ---- Publishing


def upload(folder: str | Path, url: str, *, replace: bool = False) -> None:
    """Publish the newest generation of the index in a folder, or of each shard.

    - `replace`: the same or an earlier generation of the index may be there. Its data files stay until `prune`.

    Raises `IndexExists` if there is an index and `replace` is false, `InvalidInput` if it is another or a later one,
    `IndexLocked` if somebody else published meanwhile, `CorruptIndexError` for a damaged file, `IndexWriteError`.
    """
    folder = Path(folder)
    shards = (folder / SHARDS).read_bytes() if is_sharded(folder) else None
    stores = {name: Store(folder / name) for name in (("",) if shards is None else parse_shards(shards))}
    pinned = {name: store.pin() for name, store in stores.items()}
    publish_at({name: (stores[name], pinned[name][0]) for name in stores}, url, shards=shards, replace=replace)


def publish_at(
    indexes: Mapping[str, tuple[Store, Manifest]], url: str, *, shards: bytes | None = None, replace: bool = False
) -> None:
    """Publish pinned generations at a URL.

    - `indexes`: one index under the name "", or the shards by their names.
    - `shards`: the content of shards.json, for shards.

    `replace` and the errors are those of `upload`.
    """
    top, last = Objects(url), MANIFEST if shards is None else SHARDS
    check_free(url, last if replace else None)
    listed = top.read(SHARDS, LARGEST_SHARDS)
    if listed is not None and listed != shards:
        raise InvalidInput(f"{url}: expected an index of the shards that are there, found others; choose another URL")
    places = {name: top.below(name) for name in indexes}
    before = {name: place.manifest() for name, place in places.items()}
    missing = []
    for name, (store, manifest) in indexes.items():
        old = before[name]
        if old is not None and old != manifest and not manifest.follows(old):
            raise InvalidInput(
                f"{places[name].url}: expected a later generation of the index that is there, generation "
                f"{old.generation}, found generation {manifest.generation} or another index; choose another URL"
            )
        sizes, files = places[name].sizes(), {file.sha256: file for file in manifest.files()}
        missing += [(places[name], store, file) for sha256, file in files.items() if sizes.get(sha256) != file.bytes]
    _each(lambda place, store, file: place.send(file.sha256, store.file_path(file, verify=True)), missing)
    for name, (_, manifest) in indexes.items():
        if places[name].manifest() != before[name]:
            raise IndexLocked(
                f"{places[name].url} was published by somebody else meanwhile; look at it, then try again"
            )
        if before[name] != manifest:
            places[name].write(MANIFEST, manifest.to_bytes())
    if shards is not None:
        top.write(SHARDS, shards)


def check_free(url: str, replaced: str | None = None) -> None:
    """Raise `IndexExists` if there is an index at a URL, except one whose last object, `replaced`, is replaced."""
    top = Objects(url)
    for name in (MANIFEST, SHARDS):
        if name != replaced and top.read(name, LARGEST_SHARDS) is not None:
            raise IndexExists(f"there is an index at {url}; choose another URL, or replace it by a later generation")


def list_shards_at(url: str, names: Sequence[str], unneeded: Callable[[str], Any]) -> None:
    """Publish the list of shards at a URL. Before, remove the other indexes for whose names `unneeded` is true."""
    check_free(url)
    top = Objects(url)
    for name in top.names():
        if name not in names and unneeded(name):
            top.below(name).clear()
            # A copy, if this machine has one, is of no use any more.
            Store(cache_folder(f"{top.url}/{name}")).discard()
    top.write(SHARDS, list_of(names))


def prune(url: str) -> int:
    """Remove the data files that no published generation needs, and return their number.

    Readers that are fetching an earlier generation fetch the current one instead. Nobody may publish there meanwhile.
    """
    top = Objects(url)
    shards = top.read(SHARDS, LARGEST_SHARDS)
    unneeded: list[tuple[Objects, str]] = []
    for name in ("",) if shards is None else parse_shards(shards):
        place = top.below(name)
        needed = {file.sha256 for file in place.published().files()}
        unneeded += [(place, found) for found in place.sizes() if DATA_OBJECT.fullmatch(found) and found not in needed]
    _each(Objects.remove, unneeded)
    return len(unneeded)


# ---- Fetching


def cache_folder(url: str, cache: Path | None = None) -> Path:
    """Return the folder for the copy of what is at a URL, in `cache`, or else in the user's cache folder."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (cache or user / "refcolbert" / "indexes") / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:32]


def download(url: str, cache: Path | None = None, shards: Sequence[str | int] | None = None) -> Path:
    """Fetch what the cache lacks of the index at a URL, and return the folder of the copy, an ordinary index.

    - `cache`: the folder of all copies, by default refcolbert/indexes in XDG_CACHE_HOME or ~/.cache.
    - `shards`: names or numbers of shards, by default all. Shards that are named are opened one by one, each in its
      folder of the copy: only a call without names writes shards.json.

    Raises `IndexNotFound`, `CorruptIndexError` naming the object, `InvalidInput` for a shard that does not exist.
    """
    top, folder = Objects(url), cache_folder(url, cache)
    content = top.read(SHARDS, LARGEST_SHARDS)
    if content is None:
        if shards is not None:
            raise InvalidInput(f"expected a sharded index at {url}, found none; leave out shards")
        _bring(url, folder)
        return folder
    with top.naming():
        names = parse_shards(content)
    numbers: dict[str | int, str] = dict(enumerate(names)) | {name: name for name in names}
    for shard in names if shards is None else shards:
        if shard not in numbers:
            raise InvalidInput(f"{url}: expected the name or number of one of {len(names)} shards, found {shard!r}")
        _bring(top.below(numbers[shard]).url, folder / numbers[shard])
    if shards is None:
        _patiently(partial(_list_shards, folder, content))
    return folder


def _bring(url: str, folder: Path) -> None:
    """Make a folder a copy of the generation that is published at a URL."""
    while not _patiently(partial(_try_to_bring, Objects(url), Store(folder))):
        pass


def _try_to_bring(place: Objects, store: Store) -> bool:
    """Do what `_bring` says. Returns False if the generation was pruned meanwhile; then there is a later one."""
    manifest = place.published()
    with suppress(IndexNotFound, CorruptIndexError):
        if store.read() == manifest:
            return True
    with suppress(IndexExists):
        store.create()
    try:
        with store.receiving(manifest) as writer, place.naming():
            if writer.manifest != manifest:
                _each(writer.receive, [(file, partial(place.fetch, file)) for file in manifest.files()])
                writer.commit(manifest)
    except ObjectGoneError as error:
        if place.published() == manifest:
            raise CorruptIndexError(str(error)) from None
        return False
    return True


def _list_shards(folder: Path, content: bytes) -> None:
    """Write shards.json, unless it is there with this content."""
    with Store(folder).claimed():
        if not is_sharded(folder) or (folder / SHARDS).read_bytes() != content:
            Store(folder).publish(SHARDS, content)


def _patiently(do: Callable[[], Any]) -> Any:
    """Return the result of `do`, which is called again while somebody else writes to the same folder of the cache."""
    while True:
        try:
            return do()
        except IndexLocked:
            time.sleep(LOCK_WAIT_SECONDS)


def _each(do: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
    """Call `do` with each tuple of arguments, several at a time. After an error, no more calls begin."""
    with ThreadPoolExecutor(TRANSFERS) as threads:
        for _ in threads.map(lambda each: do(*each), arguments):
            pass
