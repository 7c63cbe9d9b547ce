"""Short texts for messages: lists that are cut, choices, and the first line of an error."""

from collections.abc import Iterable

MAX_SHOWN = 10


def shorten_list(items: Iterable[object], n_items: int | None = None) -> str:
    """Join the first few items, and count the rest.

    Parameters
    ----------
    items : iterable
        Items to show; the first `MAX_SHOWN` are enough if `n_items` is given.
    n_items : int, optional
        How many there are in all; by default they are counted.

    Returns
    -------
    str
        Such as "a, b and 3 more".
    """
    texts = [str(item) for item in items]
    n_more = (len(texts) if n_items is None else n_items) - MAX_SHOWN
    more = f" and {n_more} more" if n_more > 0 else ""
    return ", ".join(texts[:MAX_SHOWN]) + more


def quote_list(names: Iterable[object]) -> str:
    """Join the first few names in quotes, so that spaces at their ends show, and count the rest."""
    return shorten_list([repr(str(name)) for name in names])


def join_choices(choices: Iterable[object]) -> str:
    """Join two or more choices, such as "a, b or c"."""
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; if it has none, the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
