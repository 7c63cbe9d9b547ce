"""Headers that a collector asks for, such as a token, from a file: no command line shows them."""

import re
from pathlib import Path

from grpc_server.errors import SettingsError

_FLAG = "--otlp-headers"
_MAX_BYTES = 64 * 1024
_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*([!-~][ -~]*)")
# Those that the exporter sets itself.
_OWN = ("connection", "content-length", "content-type", "host", "transfer-encoding")


def read_headers(path: Path) -> dict[str, str]:
    """Read a file of headers.

    Parameters
    ----------
    path : Path
        A text file with ``NAME: VALUE`` on each line; empty lines and those with # are left out.

    Returns
    -------
    dict of str to str
        Value by name.

    Raises
    ------
    SettingsError
        If the file cannot be read, or a line is of another form. The error quotes no value.
    """
    lines = _read(path).splitlines()
    numbered = [(n, line.strip()) for n, line in enumerate(lines, start=1)]
    pairs = [
        _parse(path, number, line)
        for number, line in numbered
        if line and not line.startswith("#")
    ]
    return dict(pairs)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise SettingsError(f"{_FLAG}: {path} is larger than 64 KiB")
        return content.decode("ascii")
    except OSError as error:
        raise SettingsError(f"{_FLAG}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(
            f"{_FLAG}: {path} has characters other than ASCII"
        ) from None


def _parse(path: Path, number: int, line: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise SettingsError(
            f"{_FLAG}: {path}, line {number}: it must be NAME: VALUE, such as "
            "authorization: Bearer TOKEN"
        )
    name, value = match.groups()
    if name.lower() in _OWN:
        raise SettingsError(
            f"{_FLAG}: {path}, line {number}: {name} is set by the server; remove it"
        )
    return name, value
