"""The digest in the last field of the artifact's file, over all bytes before it."""

import hashlib

# Tag of the field `sha256` of ModelArtifact, which is number 15 and of 32 bytes.
_TAG = bytes([15 << 3 | 2, 32])
_N_BYTES = len(_TAG) + 32


def seal(message: bytes) -> bytes:
    """Append the digest to a serialised `ModelArtifact`.

    Parameters
    ----------
    message : bytes
        The artifact without the field `sha256`.

    Returns
    -------
    bytes
        Content of the file.
    """
    return message + _TAG + hashlib.sha256(message).digest()


def is_sealed(content: bytes) -> bool:
    """Tell whether the content of a file ends with the right digest."""
    message, tag, digest = (
        content[:-_N_BYTES],
        content[-_N_BYTES:-32],
        content[-32:],
    )
    return tag == _TAG and hashlib.sha256(message).digest() == digest
