"""The binary extension of REST v2: raw tensors after the JSON of a request or answer."""

from grpc_server.model.kinds import quote
from grpc_server.rest.refusals import Refusal

HEADER = "inference-header-content-length"


def split_body(header: str | None, body: bytes) -> tuple[bytes, bytes]:
    """Split a body into JSON and binary data.

    Parameters
    ----------
    header : str or None
        Value of `HEADER`; None if it did not come.
    body : bytes
        The body.

    Returns
    -------
    text, data : bytes
        The JSON, and what follows it.

    Raises
    ------
    Refusal
        If the header is no length of the body or less.
    """
    if header is None:
        return body, b""
    is_number = header.isascii() and header.isdigit() and len(header) < 19
    if not is_number or int(header) > len(body):
        raise Refusal(
            f"{HEADER} is {quote(header)}; it must be the length of the JSON, at most the "
            f"body's {len(body)} bytes"
        )
    return body[: int(header)], body[int(header) :]


class BinaryData:
    """The binary data of a request, which its tensors take in turn.

    Parameters
    ----------
    data : bytes
        All of it.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._start = 0

    @property
    def n_left(self) -> int:
        """Bytes that no tensor has taken."""
        return len(self._data) - self._start

    def take(self, n_bytes: int, place: str) -> bytes:
        """Return the data of the next tensor.

        Parameters
        ----------
        n_bytes : int
            Size that the tensor states, 0 or more.
        place : str
            Where it is in the request, for error messages.

        Raises
        ------
        Refusal
            If fewer bytes are left.
        """
        if n_bytes > self.n_left:
            raise Refusal(
                f"{place} has {n_bytes} bytes of binary data; {self.n_left} are left"
            )
        start = self._start
        self._start += n_bytes
        return self._data[start : self._start]
