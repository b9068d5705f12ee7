"""The version of the public API (SemVer). The index format and the encoding spec carry versions of their own.

`format.FORMAT_VERSION` changes when the bytes of an index change, `spec.SPEC_VERSION` when a model folder's
`encoding.json` does; either can move without the other two.
"""

__version__ = "0.1.0"
