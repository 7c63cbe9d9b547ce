"""The digest that the artifact's file carries of itself, in its last field."""

import hashlib

# Tag of the field `sha256` of ModelArtifact, which is number 15 and of 32 bytes.
_TAG = bytes([15 << 3 | 2, 32])
_N_BYTES = len(_TAG) + 32


def seal(message: bytes) -> bytes:
    """Return a serialised `ModelArtifact` without a digest as the content of a file, with it."""
    return message + _TAG + hashlib.sha256(message).digest()


def is_sealed(content: bytes) -> bool:
    """Tell whether the content of a file ends with its own digest, and with the right one."""
    message, tag, digest = (
        content[:-_N_BYTES],
        content[-_N_BYTES:-32],
        content[-32:],
    )
    return tag == _TAG and hashlib.sha256(message).digest() == digest
