"""Ends a connection of the HTTP port so that the reply arrives."""

import asyncio
from contextlib import suppress

# For a client that goes on sending a body that was refused.
_SECONDS = 2.0
_CHUNK_BYTES = 64 * 1024
_WITHOUT_BODY = (b"GET ", b"HEAD ")


def may_be_sending(head: object, reply: bytes) -> bool:
    """Tell whether a client may still send, because its body was refused.

    Parameters
    ----------
    head : object
        Head of the request as bytes, or something else if there was none.
    reply : bytes
        Reply in HTTP/1.
    """
    if not isinstance(head, bytes) or head.startswith(_WITHOUT_BODY):
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
