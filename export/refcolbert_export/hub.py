"""The checkpoint that a name means: a folder, or a repository of the hub, which is downloaded. Imports no torch."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from refcolbert.encoding.hub import download, is_hub_id, list_files
from refcolbert.errors import InvalidInput, UnsupportedCheckpoint

from .kinds import WEIGHTS, check_file, check_kind

__all__ = ["checkpoint_folder", "source_of", "weights_and_others"]

# Everything but weights that a reader may open.
OTHERS = (".json", ".txt", ".model", ".py", ".metadata")
HEADS = ("colbert_linear.pt",)
OTHER_FORMATS = r"onnx|openvino|coreml|checkpoint-\d+"


def checkpoint_folder(name: str, revision: str | None = None) -> Path:
    """Return the folder of a checkpoint that is named by its path or by its hub id, after a download if need be.

    revision  branch, tag or commit of the repository; None: its main branch

    Raises `UnsupportedCheckpoint`, before weights are downloaded, and `ModelNotFound`.
    """
    folder = Path(name)
    if folder.is_dir() or not is_hub_id(name):
        if revision is not None:
            raise InvalidInput(f"expected a hub id 'owner/name' with --revision, found the path {name}")
        if folder.is_file():
            check_file(folder)
        if not folder.is_dir():
            raise UnsupportedCheckpoint(f"expected a checkpoint's folder or a hub id 'owner/name', found {name!r}")
        check_kind(folder)
        return folder
    names = list_files(name, revision)
    if names is None:
        folder = download(name, ["config.json"], revision, offline=True)
        check_kind(folder)
        return folder
    weights, others = weights_and_others(names)
    folder = download(name, others, revision)
    check_kind(folder, names)
    # The folder's name is the commit that the revision is now.
    return download(name, [*others, *weights], folder.name)


def weights_and_others(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the files of a checkpoint among those of its repository: weights, and all others that a reader may open.

    The weights are the safetensors of each folder, or the pickled weights of a folder without. A repository may mix the
    two: converters to safetensors often leave out Dense folders.
    """
    paths = [PurePosixPath(name) for name in names]
    paths = [p for p in paths if len(p.parts) <= 2 and not re.fullmatch(OTHER_FORMATS, p.parts[0])]
    others = [str(p) for p in paths if p.suffix in OTHERS or str(p) in HEADS]
    weights: dict[PurePosixPath, list[str]] = {}  # folder -> its files of the first kind that it has
    for pattern in WEIGHTS:
        found = [p for p in paths if re.fullmatch(pattern, p.name) and p.parent not in weights]
        for p in found:
            weights.setdefault(p.parent, []).append(str(p))
    return [name for part in weights.values() for name in part], others


def source_of(folder: Path) -> dict[str, str] | None:
    """Return repository and commit of a folder models--owner--name/snapshots/commit of the hub's cache, else None."""
    repository, snapshots, commit = folder.absolute().parts[-3:] if len(folder.absolute().parts) > 2 else ("", "", "")
    if snapshots != "snapshots" or not repository.startswith("models--"):
        return None
    return {"repository": repository.removeprefix("models--").replace("--", "/"), "revision": commit}
