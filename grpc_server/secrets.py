"""Removes passwords and keys from what people or programs get to read."""

import re
from collections.abc import Iterable, Mapping

_HIDDEN = "***"
# user:password@ of an address, up to the last @ of the word: a password may hold one.
_USER = re.compile(r"(?<=://)[^\s'\"<>]*@")
_NAME = r"[\w-]*(?:passw(?:or)?d|pwd|secret|token|credential|signature|api_?key|access_?key)[\w-]*"
# name=value and name: value, in queries, connection strings and headers.
_PAIR = re.compile(
    rf"(?i)\b({_NAME}['\"]?\s*[=:]\s*['\"]?(?:bearer |basic )?)[^\s'\"&;,]+"
)
_SECRET_NAME = re.compile(rf"(?i){_NAME}$")
# A shorter value would be found in words that are none.
_MIN_VALUE_CHARACTERS = 8


def redact(text: str, values: Iterable[str] = ()) -> str:
    """Return `text` without the passwords and keys in it.

    Parameters
    ----------
    text : str
        Text of any kind: a URI, an error of a library, a line of a log.
    values : iterable of str
        Secrets that are known, wherever they stand.
    """
    for value in values:
        text = text.replace(value, _HIDDEN)
    return _PAIR.sub(rf"\1{_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text))


def find_secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of the variables whose names say that they are secrets, longest first."""
    found = {
        value
        for name, value in environ.items()
        if _SECRET_NAME.match(name) and len(value) >= _MIN_VALUE_CHARACTERS
    }
    return tuple(sorted(found, key=len, reverse=True))
