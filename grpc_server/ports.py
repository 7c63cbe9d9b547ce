"""The port of gRPC before grpcio has it: whether it is free, and how processes come to share it."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from grpc_server.errors import StartupError


@contextmanager
def telling_the_address(host: str, port: int) -> Iterator[None]:
    """Turn the errors of listening into one that says what to change.

    Raises
    ------
    StartupError
        If the address is in use, or is not one of this machine.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # grpcio's own says only that it failed.
        reason = error.strerror if isinstance(error, OSError) else "it is in use"
        raise StartupError(
            f"cannot listen on {host}:{port}: {reason}; choose another with --port or --host"
        ) from None


def check_address(host: str, port: int) -> None:
    """Bind and let go: grpcio itself says only that it failed, and writes to stderr besides.

    Raises
    ------
    OSError
        If the address is in use, or is not one of this machine.
    """
    with _bound(host, port, socket.SO_REUSEADDR):
        pass


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that holds the port, and on which nobody can connect.

    As long as it is open, processes of the same user may listen on the port with SO_REUSEPORT, and
    nobody can without. The kernel gives connections to those alone that listen.

    Raises
    ------
    StartupError
        If the address is in use, or is not one of this machine.
    """
    with telling_the_address(host, port):
        # With SO_REUSEPORT alone, the port of another server of many processes is had as well.
        check_address(host, port)
        try:
            return _bound(host, port, socket.SO_REUSEPORT)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        # Connections of a server of one process that has ended still linger there.
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
