"""Checks the gRPC port before grpcio binds it, and reserves it for several processes."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from grpc_server.errors import StartupError


@contextmanager
def explain_bind_errors(
    host: str, port: int, *, flag: str = "--port"
) -> Iterator[None]:
    """Turn an error of binding a port into one that says what to change.

    Raises
    ------
    StartupError
        If the address is in use, or does not belong to this machine.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # grpcio's own error gives no reason.
        reason = error.strerror if isinstance(error, OSError) else "it is in use"
        raise StartupError(
            f"cannot listen on {host}:{port}: {reason}; choose another with {flag} or --host"
        ) from None


def check_address(host: str, port: int) -> None:
    """Bind the port and release it: grpcio's own error gives no reason and writes to stderr.

    Raises
    ------
    OSError
        If the address is in use, or does not belong to this machine.
    """
    with _bound(host, port, socket.SO_REUSEADDR):
        pass


def reserve(host: str, port: int, *, flag: str = "--port") -> socket.socket:
    """Reserve the port for processes of the same user.

    While the socket is open, they can listen on the port with SO_REUSEPORT, and no other process
    can. The socket does not listen, so the kernel gives it no connections.

    Parameters
    ----------
    host : str
        Address or name.
    port : int
        Port, [0, 65535]; 0 takes a free one.
    flag : str
        Flag of the port, for the error.

    Returns
    -------
    socket.socket
        A bound socket.

    Raises
    ------
    StartupError
        If the address is in use, or does not belong to this machine.
    """
    with explain_bind_errors(host, port, flag=flag):
        # SO_REUSEPORT alone would succeed on the port of another server with several processes.
        check_address(host, port)
        try:
            return _bound(host, port, socket.SO_REUSEPORT)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        # Connections of a server that ended, in TIME_WAIT, need SO_REUSEADDR.
        return _bound(host, port, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def _bound(host: str, port: int, *options: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )[0]
    bound = socket.socket(family, kind)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
