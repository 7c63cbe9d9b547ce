"""Writes JSON, and reads that which nobody has checked, in bounded memory.

A list of a few bytes takes 30 times as many in Python. So the values of a text are counted before
it is read.
"""

import json
import re
from collections import Counter
from typing import Any, NoReturn

from grpc_server.rest.refusals import Refusal

# What is before the next separator that is in no text, and that. Nothing is looked at twice: a body
# of quotes would take hours otherwise.
_NEXT = re.compile(rb'(?:[^",\[{]|"(?:[^"\\]|\\.)*+")*+[,\[{]', re.DOTALL)
_SEPARATORS = b",[{"
_MAX_SHOWN_CHARACTERS = 80


def read_json(body: bytes, max_values: int) -> Any:
    """Read one JSON value.

    Parameters
    ----------
    body : bytes
        The text, in UTF-8.
    max_values : int
        Most values, lists and objects of the text.

    Returns
    -------
    object
        The value. No object in it has a name twice, and no text a lone surrogate in UTF-16.

    Raises
    ------
    Refusal
        If the bytes are no such text.
    """
    if _has_more_than(max_values, body):
        raise Refusal(f"the body has more than {max_values} values; send fewer rows")
    try:
        text = body.decode()
        return json.loads(
            text,
            object_pairs_hook=_make_object,
            parse_constant=_refuse_constant,
            # The same as without them. But other threads can run in between only where a function
            # of Python is called, and a large body takes half a second.
            parse_float=lambda digits: float(digits),
            parse_int=lambda digits: int(digits),
        )
    except UnicodeDecodeError as error:
        raise Refusal(f"the body is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise Refusal("the body is not JSON of a request: it nests too deep") from None
    except ValueError as error:  # also of an integer of thousands of digits
        message = str(error)[:_MAX_SHOWN_CHARACTERS]
        raise Refusal(f"the body is not JSON: {message}") from None


def write_json(value: Any) -> bytes:
    """Return a value as JSON; raise ValueError if it has a number that is none."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _has_more_than(max_values: int, body: bytes) -> bool:
    if _count(body) <= max_values:
        return False
    # A text may have commas too. Counted one by one, in no memory, and not further than needed.
    position = 0
    for _ in range(max_values + 1):
        found = _NEXT.match(body, position)
        if found is None:
            return False
        position = found.end()
    return True


def _count(body: bytes) -> int:
    return sum(body.count(character) for character in _SEPARATORS)


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        # Not by `list.count`: a body of 400 KB took 22 s, in which no call was answered.
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise Refusal(f"the name {twice[:_MAX_SHOWN_CHARACTERS]!r} occurs twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise Refusal(f"{name} is not JSON; null is a gap")
