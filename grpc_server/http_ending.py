"""Ends a connection of the HTTP port so that the reply arrives."""

import asyncio
import re
from contextlib import suppress

# For a client that goes on sending a body that was refused.
_SECONDS = 2.0
_CHUNK_BYTES = 64 * 1024
_WITHOUT_BODY = (b"GET ", b"HEAD ")
_LENGTH = re.compile(
    rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE
)


class CountedReader:
    """Reads a body, and counts its bytes.

    Parameters
    ----------
    reader : asyncio.StreamReader
        What the client sends after the head.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.n_bytes = 0

    async def read(self, n_bytes: int) -> bytes:
        """Return up to `n_bytes` bytes, none at the end."""
        chunk = await self._reader.read(n_bytes)
        self.n_bytes += len(chunk)
        return chunk


def may_be_sending(head: object, reply: bytes, n_read: int) -> bool:
    """Tell whether a client may still send, because its body was refused.

    Parameters
    ----------
    head : object
        Head of the request as bytes, or something else if there was none.
    reply : bytes
        Reply in HTTP/1.
    n_read : int
        Bytes of the body that were read.
    """
    if not isinstance(head, bytes) or head.startswith(_WITHOUT_BODY):
        return False
    announced = _LENGTH.search(head)
    if announced is not None and int(announced[1]) <= n_read:
        return False
    return reply[9:10] in (b"4", b"5")


async def hear_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Throw away what a client still sends, for a moment, after the reply was written.

    A connection that is closed with bytes unread is reset. The client then sees the reset, and
    perhaps not the reply.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS):
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(_CHUNK_BYTES):
                pass
