"""The exceptions of the standard library for an archive that is damaged, or that it cannot unpack."""

import struct
import tarfile
import zipfile
import zlib
from lzma import LZMAError

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
