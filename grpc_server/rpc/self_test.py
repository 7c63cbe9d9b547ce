"""Checks at every start that this grpcio has the private parts that the dispatcher uses."""

from concurrent.futures import ThreadPoolExecutor

import grpc

from grpc_server.errors import GrpcioUnusable
from grpc_server.metrics import Uncounted
from grpc_server.rpc.desks import DEFAULT_LANE_POLICY, FastLane, LanePolicy
from grpc_server.rpc.dispatcher import Dispatcher
from grpc_server.rpc.patience import Patience

_SECONDS = 2.0
_PATH = "/check.Dispatcher/Echo"


def check_grpcio() -> None:
    """Make a call over the loopback address.

    Raises
    ------
    GrpcioUnusable
        If a private part is missing, or the call fails.
    """
    version = grpc.__version__
    needed = f"grpcio {version} cannot be used; install grpcio>=1.84.2,<1.86"
    try:
        answer = _echo(b"ping")
    except (AttributeError, KeyError, TypeError, RuntimeError, grpc.RpcError) as error:
        raise GrpcioUnusable(f"{needed}: {error!r}") from error
    if answer != b"ping":
        raise GrpcioUnusable(f"{needed}: a call had a wrong reply")


def echo_server(
    policy: LanePolicy = DEFAULT_LANE_POLICY,
) -> tuple[Dispatcher, int, str]:
    """Build a server with one method on a free port.

    Parameters
    ----------
    policy : LanePolicy
        Limits of the fast lane's rounds.

    Returns
    -------
    dispatcher : Dispatcher
        The server, not started yet.
    port : int
        Port on the loopback address.
    path : str
        Path of the method, which returns its request.
    """
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
    lane = FastLane(dispatcher.queue, 1000, counter.flush, policy)
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
