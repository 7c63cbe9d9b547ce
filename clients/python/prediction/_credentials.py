"""Credentials from files: TLS, a client's certificate, and a token."""

from pathlib import Path

import grpc


def make_credentials(
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    token_file: Path | None = None,
) -> grpc.ChannelCredentials:
    """Return credentials of TLS from PEM files.

    Parameters
    ----------
    ca : Path or None, default=None
        CAs of the server; None takes those that gRPC brings along.
    certificate, key : Path or None, default=None
        The client's certificate and its key, both or none.
    token_file : Path or None, default=None
        File that holds a token and nothing else; it is sent with each call.

    Returns
    -------
    grpc.ChannelCredentials
        For `PredictionClient`.

    Raises
    ------
    ValueError
        If a file cannot be read or used.
    """
    if (certificate is None) != (key is None):
        raise ValueError("a client's certificate needs its key, and the key its file")
    channel = grpc.ssl_channel_credentials(
        _read_pem(ca), _read_pem(key), _read_pem(certificate)
    )
    if token_file is None:
        return channel
    call = grpc.access_token_call_credentials(_read_token(token_file))
    return grpc.composite_channel_credentials(channel, call)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def _read_pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    content = _read(path)
    if b"-----BEGIN " not in content:
        raise ValueError(f"{path} is not PEM; it must contain '-----BEGIN '")
    return content


def _read_token(path: Path) -> str:
    token = _read(path).decode("latin-1").strip()
    # No error quotes the token.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{path} holds no token; it takes one word of ASCII")
    return token
