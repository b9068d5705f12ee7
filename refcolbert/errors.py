"""Every error that refcolbert raises on purpose, one tree.

    RefColbertError
    ├── InvalidInput (ValueError)      what the caller passed: text, vectors, k, documents, filters
    │   ├── DuplicateId                the id is already in the index, or twice in one call
    │   └── UnknownId (KeyError)       the id is not in the index
    ├── ModelError                     the encoder
    │   ├── ModelNotFound              no model at that path, hub id or default place
    │   ├── InvalidModel               the folder is there, its files are not what they must be
    │   ├── EncoderMismatch            the index was made by another encoder
    │   └── DeviceUnavailable          the execution provider asked for cannot run here
    ├── IndexFileError                 the index on disk
    │   ├── IndexNotFound
    │   ├── IndexExists
    │   ├── IndexLocked                another process is writing
    │   ├── IndexTooNewError           written by a newer format than this version reads
    │   ├── IndexWriteError            the disk is full or failed while writing
    │   └── CorruptIndexError          bytes that differ from what was committed
    ├── ExportError                    the torch side
    │   ├── UnsupportedCheckpoint      a layout, backbone, tensor or setting that cannot be exported faithfully
    │   └── ParityError                the ONNX model differs from its checkpoint
    ├── TrainingError                  a run that cannot begin, go on or be resumed
    └── MissingDependency (ImportError)  an extra is not installed; the message names it

A message says what was expected, what was found and what to do. An operation that raises has changed nothing.
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
    "ModelError",
    "ModelNotFound",
    "ParityError",
    "RefColbertError",
    "TrainingError",
    "UnknownId",
    "UnsupportedCheckpoint",
]


class RefColbertError(Exception):
    """The root: catch this to catch everything that refcolbert raises on purpose."""


class InvalidInput(RefColbertError, ValueError):
    """An argument that cannot be used as it is."""


class DuplicateId(InvalidInput):
    """A document id that the index holds already, or that occurs twice in one call."""


class UnknownId(InvalidInput, KeyError):
    """A document id that the index does not hold."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class ModelError(RefColbertError):
    """Something about the encoder."""


class ModelNotFound(ModelError):
    """There is no model where one was looked for."""


class InvalidModel(ModelError):
    """A model folder whose files are missing, unreadable or contradict each other."""


class EncoderMismatch(ModelError):
    """The index needs another encoder than the one at hand."""


class DeviceUnavailable(ModelError):
    """The requested execution provider cannot run on this machine."""


class IndexFileError(RefColbertError):
    """Something about the index on disk."""


class IndexNotFound(IndexFileError):
    """There is no index at that path."""


class IndexExists(IndexFileError):
    """There is already something at that path."""


class IndexLocked(IndexFileError):
    """Another writer holds the index."""


class IndexTooNewError(IndexFileError):
    """The index was written by a newer format than this version understands."""


class IndexWriteError(IndexFileError):
    """The operating system refused a write: the disk is full, failing or read-only."""


class CorruptIndexError(IndexFileError):
    """A file of the index is not what was committed."""


class ExportError(RefColbertError):
    """A checkpoint could not be turned into a model folder."""


class UnsupportedCheckpoint(ExportError):
    """The checkpoint holds something that cannot be exported without changing the numbers."""


class ParityError(ExportError):
    """The exported model does not reproduce its checkpoint."""


class TrainingError(RefColbertError):
    """A training run that cannot begin, go on or be resumed; its last checkpoint is as it was."""


class MissingDependency(RefColbertError, ImportError):
    """An optional package is not installed."""
