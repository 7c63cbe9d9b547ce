"""The identifier of a call, by which people find it in the logs of all who handled it."""

import re
from collections.abc import Iterable
from random import getrandbits
from zlib import crc32

REQUEST_ID = "x-request-id"
# What callers and proxies use: UUIDs, numbers, names; nothing that needs escapes.
_VALID = re.compile(r"[!-~]{1,128}").fullmatch
# Of all identifiers.
N_POSITIONS = 2**32
# Odd, so that it permutes: CRC-32 gives similar texts similar numbers.
_SCATTER = 0x9E3779B1


def make_request_id() -> str:
    """Return a new identifier: 32 hexadecimal digits."""
    return f"{getrandbits(128):032x}"


def find_request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the first `x-request-id` of a call, or a new one if it has none that is valid.

    Parameters
    ----------
    metadata : iterable of pairs
        Metadata of the call.

    Returns
    -------
    str
        1 to 128 visible ASCII characters.
    """
    for key, value in metadata:
        if key == REQUEST_ID:
            return (
                value if isinstance(value, str) and _VALID(value) else make_request_id()
            )
    return make_request_id()


def find_position(request_id: str) -> int:
    """Return the position of an identifier among all, [0, 2**32); a retry has the same."""
    return crc32(request_id.encode()) * _SCATTER % N_POSITIONS
