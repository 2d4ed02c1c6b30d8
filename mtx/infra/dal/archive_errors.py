"""The exceptions of the standard library for an archive that is damaged, or that it cannot unpack."""

import struct
import tarfile
import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path

# A damaged name in a zip file is a UnicodeDecodeError; an unknown compression is a NotImplementedError.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
)


def is_zip(path: Path) -> bool:
    """Return whether a file ends like a zip file, also if `zipfile` cannot read it, such as a part of several disks."""
    try:
        return zipfile.is_zipfile(path)
    except ARCHIVE_ERRORS:
        return True
