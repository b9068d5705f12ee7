"""Repositories of the Hugging Face hub. The only module that imports huggingface_hub.

A download keeps its files in the library's own cache, in a folder whose name is the commit.
"""

from collections.abc import Sequence
from pathlib import Path

from ..errors import ModelNotFound

__all__ = ["download", "is_hub_id", "list_files"]


def is_hub_id(name: str) -> bool:
    """Return True for "owner/name". "./a" and "/a" are paths: a misspelled path must not go to the network."""
    owner, slash, rest = name.partition("/")
    return bool(slash and owner and rest) and "/" not in rest and "\\" not in name and not name.startswith((".", "~"))


def list_files(hub_id: str, revision: str | None = None) -> list[str] | None:
    """Return the paths of a repository's files, or None when the hub cannot be reached.

    Raises `ModelNotFound` when the hub has no such repository or revision.
    """
    # Imported here and below: it takes a second, and only hub ids need it.
    from huggingface_hub import HfApi
    from huggingface_hub.utils import HfHubHTTPError  # type: ignore[attr-defined]  # `errors` came with 0.25

    try:
        info = HfApi().model_info(hub_id, revision=revision)
    except (HfHubHTTPError, ValueError) as error:
        raise _not_found(hub_id, error) from error
    except Exception:  # noqa: BLE001 - its HTTP library raises errors of its own, which differ between versions
        return None
    return [file.rfilename for file in info.siblings or []]


def download(hub_id: str, patterns: Sequence[str], revision: str | None = None, *, offline: bool = False) -> Path:
    """Return the folder of a repository in the cache, with at least the files that match.

    offline  use only what was downloaded before

    Raises `ModelNotFound`.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(hub_id, revision=revision, allow_patterns=list(patterns), local_files_only=offline)
        return Path(folder)
    except Exception as error:
        raise _not_found(hub_id, error) from error


def _not_found(hub_id: str, error: Exception) -> ModelNotFound:
    from huggingface_hub.utils import LocalEntryNotFoundError  # type: ignore[attr-defined]

    if isinstance(error, LocalEntryNotFoundError):
        return ModelNotFound(
            f"expected a folder {hub_id!r} here or the hub's repository of that name, which was not downloaded before "
            "and cannot be reached now; connect to the network, or copy the repository here and name its folder"
        )
    # The library's messages have several lines, with addresses and request ids.
    reason = " ".join(str(error).split())
    return ModelNotFound(f"expected a folder {hub_id!r} here or a repository of that name on the hub, found: {reason}")
