"""All errors that refcolbert raises on purpose, in one tree.

    RefColbertError
    ├── InvalidInput (ValueError)      an argument: text, vectors, k, documents, a filter
    │   ├── DuplicateId                the id is already in the index, or twice in one call
    │   ├── MissingField               a record of a file has no field for its text
    │   └── UnknownId (KeyError)       the id is not in the index
    ├── ModelError                     the encoder
    │   ├── ModelNotFound              no model at that path, hub id or default place
    │   ├── InvalidModel               files that are missing, unreadable or contradict each other
    │   ├── EncoderMismatch            the index was made by another encoder
    │   └── DeviceUnavailable          the requested execution provider cannot run here
    ├── IndexFileError                 the index on disk
    │   ├── IndexNotFound
    │   ├── IndexExists
    │   ├── IndexLocked                another process is writing
    │   ├── IndexTooNewError           written by a newer format than this version reads
    │   ├── IndexWriteError            the disk is full or failed while writing
    │   └── CorruptIndexError          a file differs from the one that was committed
    ├── ExportError                    the torch side
    │   ├── UnsupportedCheckpoint      a layout, backbone, tensor or setting that cannot be exported faithfully
    │   └── ParityError                the ONNX model differs from its checkpoint
    ├── MissingPart                    a part of a collection in several places does not answer
    ├── TrainingError                  a run cannot begin, continue or be resumed
    └── MissingDependency (ImportError)  an extra is not installed; the message names it

A message has three parts: expected, found, what to do. An operation that raises has changed nothing, with one
exception: `IndexWriteError` may come after the commit, and then says that `refresh()` tells.
"""

__all__ = [
    "CorruptIndexError",
    "DeviceUnavailable",
    "DuplicateId",
    "EncoderMismatch",
    "ExportError",
    "IndexExists",
    "IndexFileError",
    "IndexLocked",
    "IndexNotFound",
    "IndexTooNewError",
    "IndexWriteError",
    "InvalidInput",
    "InvalidModel",
    "MissingDependency",
    "MissingField",
    "MissingPart",
    "ModelError",
    "ModelNotFound",
    "ParityError",
    "RefColbertError",
    "TrainingError",
    "UnknownId",
    "UnsupportedCheckpoint",
]


class RefColbertError(Exception):
    """The root of the tree: `except RefColbertError` catches all errors below."""


class InvalidInput(RefColbertError, ValueError):
    """An argument that cannot be used as it is."""


class DuplicateId(InvalidInput):
    """A document id that the index holds already, or that occurs twice in one call."""


class MissingField(InvalidInput):
    """A record of a file without the field that is said to be its text."""


class UnknownId(InvalidInput, KeyError):
    """A document id that the index does not hold."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class ModelError(RefColbertError):
    """The root of the errors of encoders."""


class ModelNotFound(ModelError):
    """There is no model at the path, under the hub id, or in the package."""


class InvalidModel(ModelError):
    """A model folder whose files are missing, unreadable or contradict each other."""


class EncoderMismatch(ModelError):
    """The index was made by another encoder than the given one."""


class DeviceUnavailable(ModelError):
    """The requested execution provider cannot run on this machine."""


class IndexFileError(RefColbertError):
    """The root of the errors of an index on disk."""


class IndexNotFound(IndexFileError):
    """There is no index at that path."""


class IndexExists(IndexFileError):
    """There is already a file or folder at that path."""


class IndexLocked(IndexFileError):
    """Another writer holds the index."""


class IndexTooNewError(IndexFileError):
    """The index was written by a newer format than this version understands."""


class IndexWriteError(IndexFileError):
    """The operating system refused a write: the disk is full, failing or read-only."""


class CorruptIndexError(IndexFileError):
    """A file of the index differs from the one that was committed."""


class ExportError(RefColbertError):
    """A checkpoint could not be turned into a model folder."""


class UnsupportedCheckpoint(ExportError):
    """The checkpoint holds something that cannot be exported without changing the numbers."""


class ParityError(ExportError):
    """The exported model does not reproduce its checkpoint."""


class MissingPart(RefColbertError):
    """A part of a collection in several places does not answer."""


class TrainingError(RefColbertError):
    """A training run cannot begin, continue or be resumed; its last checkpoint is unchanged."""


class MissingDependency(RefColbertError, ImportError):
    """An optional package is not installed."""
