"""Removes passwords and keys from text before people or programs read it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote

_HIDDEN = "***"
# A shorter text, or a number that might be a port, would also match words that are not secret.
_MIN_CHARACTERS = 4
_MIN_DIGITS = 6
# The part of an address before the @, without a colon, is a user name unless it is this long.
_MIN_TOKEN_CHARACTERS = 16

# Every repetition that may fail afterwards has a limit: a crafted text could otherwise keep the
# expression busy for hours.
_NAME = r"(?:passw(?:or)?d|pwd|secret|token(?!iz)|credential|api_?key|access_?key|authorization)"
_MARKS = r"['\"\\]{0,4}"
_VALUE = r"(?:\"[^\"]*|'[^']*|[^\s&;]+)"
_PAIR = re.compile(
    # name=value and name: value, in queries, connection strings, JSON and headers.
    rf"(?i)({_NAME}[\w.%-]{{0,40}}{_MARKS}\s{{0,4}}[=:]\s{{0,4}}\\{{0,4}}"
    r"(?:(?:basic|bearer|digest|token:?)\s{1,4}){0,2})" + rf"({_VALUE})"
)
_SIGNATURE = re.compile(r"(?i)(\bsig(?:nature)?=)[^\s&;]+")
_BEARER = re.compile(r"(?i)(\bbearer\s{1,4})[\w.~+/=-]+")
_WORD = re.compile(r"[^\s'\"<>]+")
# The ends of a scheme, and of a user name with its password: plain, and escaped within a query.
_ADDRESS_SIGNS = ((re.compile("://"), "@"), (re.compile("(?i)%3a%2f%2f"), "%40"))
# A shell keeps the working folder in PWD, and the one before in OLDPWD.
_SECRET_VARIABLE = re.compile(
    rf"(?i)^(?!(?:OLD)?PWD$).*?{_NAME}(?!\w*_(?:FILE|PATH|DIR|URL|URI)$)"
)


def redact(text: str, values: Iterable[str] = ()) -> str:
    """Replace the passwords and keys in a text by ``***``, in linear time.

    Parameters
    ----------
    text : str
        Any text: a URI, an error of a library, a line of a log.
    values : iterable of str
        Known secrets, which are replaced everywhere; see `find_secrets`.

    Returns
    -------
    str
        The text without secrets.
    """
    for value in values:
        text = text.replace(value, _HIDDEN)
    text = _WORD.sub(lambda word: _without_user(word[0]), text)
    for expression in (_PAIR, _SIGNATURE, _BEARER):
        text = expression.sub(rf"\g<1>{_HIDDEN}", text)
    return text


def find_secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Find the secrets of an environment.

    They are the values of variables with names such as ``AWS_SECRET_ACCESS_KEY``, and the passwords
    in addresses.

    Parameters
    ----------
    environ : mapping of str to str
        Environment.

    Returns
    -------
    tuple of str
        Each spelling of each secret, plain and escaped, longest first.
    """
    found = {
        spelling
        for name, value in environ.items()
        for secret in _list_secrets(name, value)
        for spelling in _spell(secret)
        if _is_unmistakable(spelling)
    }
    return tuple(sorted(found, key=len, reverse=True))


def _without_user(word: str) -> str:
    """Return a word without the user name and password of its address.

    They end at the last @, since a password may contain @ or a slash without an escape.
    """
    for scheme, at in _ADDRESS_SIGNS:
        match, end = scheme.search(word), word.rfind(at)
        if match is not None and match.end() <= end:
            word = word[: match.end()] + _HIDDEN + word[end:]
    return word


def _list_secrets(name: str, value: str) -> Iterator[str]:
    if _SECRET_VARIABLE.search(name):
        yield value
    _, scheme, rest = value.partition("://")
    if not scheme:
        return
    user, _, _ = rest.rpartition("@")
    _, colon, password = user.partition(":")
    if colon:
        yield password
    elif len(user) >= _MIN_TOKEN_CHARACTERS:
        yield user
    for match in _PAIR.finditer(rest):
        yield match[2].strip("'\"")


def _spell(secret: str) -> Iterator[str]:
    plain = unquote(secret)
    yield from (secret, plain, quote(plain, safe=""), quote_plus(plain))


def _is_unmistakable(text: str) -> bool:
    if text.lower() in ("true", "false", "none", "null"):
        return False
    return len(text) >= (_MIN_DIGITS if text.isdigit() else _MIN_CHARACTERS)
