"""Proves at the start that this grpcio has what the dispatcher rests on."""

from concurrent.futures import ThreadPoolExecutor

import grpc

from grpc_server.errors import GrpcioUnusable
from grpc_server.metrics import Uncounted
from grpc_server.rpc.desks import FastLane
from grpc_server.rpc.dispatcher import Dispatcher
from grpc_server.rpc.patience import Patience

_SECONDS = 2.0
_PATH = "/check.Dispatcher/Echo"


def check_grpcio() -> None:
    """Make a call over the loopback address.

    Raises
    ------
    GrpcioUnusable
        If a private part is missing, or the call is not answered.
    """
    version = grpc.__version__
    needed = f"grpcio {version} cannot be used; install grpcio>=1.84.2,<1.86"
    try:
        answer = _echo(b"ping")
    except (AttributeError, KeyError, TypeError, RuntimeError, grpc.RpcError) as error:
        raise GrpcioUnusable(f"{needed}: {error!r}") from error
    if answer != b"ping":
        raise GrpcioUnusable(f"{needed}: a call was answered wrongly")


def echo_server() -> tuple[Dispatcher, int, str]:
    """Return a server of one method on a free port, not started yet, its port and the path."""
    handler = grpc.unary_unary_rpc_method_handler(
        lambda request, context: request, bytes, bytes
    )
    server = grpc.server(
        ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)]  # not used
    )
    service, name = _PATH.lstrip("/").split("/")
    server.add_registered_method_handlers(service, {name: handler})
    patience = Patience(_SECONDS, _SECONDS, _SECONDS)
    dispatcher = Dispatcher(server, patience, goodbye_seconds=0)
    counter = Uncounted()
    lane = FastLane(dispatcher.queue, 1000, counter.flush)
    dispatcher.serve(_PATH, lane, counter, bytes)
    return dispatcher, server.add_insecure_port("127.0.0.1:0"), _PATH


def _echo(message: bytes) -> bytes:
    dispatcher, port, path = echo_server()
    dispatcher.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            return bytes(echo(message, timeout=_SECONDS))
    finally:
        dispatcher.stop(_SECONDS)
