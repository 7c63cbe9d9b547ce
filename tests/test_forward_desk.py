"""Requests that the supervisor passes on, and processes that end or leave meanwhile."""

import asyncio
import socket
import subprocess
import sys

import pytest

from grpc_server.gateway.bodies import BodyReader, BodyRoom
from grpc_server.gateway.forward import ForwardDesk, Inlet
from grpc_server.http_desk import Connection, Head
from grpc_server.processes.slot import Slot

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1234"
Writer = asyncio.StreamWriter


async def ask(method: str, reply: bytes) -> bytes:
    """Return what a client gets of a process that sends `reply` and ends."""

    async def send_and_end(reader: asyncio.StreamReader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    inlet = Inlet()
    desk = ForwardDesk(
        ("/v1",), BodyReader(100, BodyRoom(100), {}), lambda: [inlet.address]
    )
    server = await asyncio.start_unix_server(send_and_end, sock=inlet.listener)
    async with server:
        head = Head(method, "/v1/model", "", {}, Connection("x", ()))
        body = asyncio.StreamReader()
        writer: Writer = None  # type: ignore[assignment]  # of no use without a body
        return await desk.answer(head, body, writer)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_whole_reply_is_passed_on(method: str) -> None:
    reply = WHOLE if method == "GET" else WHOLE[:-4]

    assert asyncio.run(ask(method, reply)) == reply


@pytest.mark.parametrize("n_bytes", [0, 1, 20, len(WHOLE) - 5, len(WHOLE) - 1])
def test_a_reply_that_was_cut_off_is_none(n_bytes: int) -> None:
    reply = asyncio.run(ask("GET", WHOLE[:n_bytes]))

    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in reply
    assert b"has ended; try again" in reply


def test_a_process_that_leaves_gets_no_more_requests() -> None:
    slot = Slot(0)
    ours, theirs = socket.socketpair()
    with theirs, subprocess.Popen([sys.executable, "-c", ""]) as process:
        slot.fill(process, ours)
        slot.is_loaded = True
        was_ready = slot.is_ready

        slot.is_leaving = True

        assert (was_ready, slot.is_ready) == (True, False)
        slot.clear()
    slot.is_loaded = True
    slot.hear()
    assert slot.is_ready
