"""The layout of a CSV file: what separates its cells, and where its header is."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, pairwise
from typing import Any

from table_files.errors import TableFileError

SNIFFED_ROWS = 1000
SNIFFED_CHARACTERS = 2**18
# In files with decimal commas, commas may cut each line evenly too; so they come last.
_SEPARATORS = "\t;|,"
# Hive and others separate by characters that hardly occur in text.
_RARE_SEPARATORS = "^~:\x01\x1f"
# As files have them: other characters that end lines, such as U+2028, may be in cells.
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_NUMBER = re.compile(r"\s*[+-]?[\d.,]+\s*")


@dataclass(frozen=True, slots=True)
class Format:
    """How a line is cut into cells.

    Parameters
    ----------
    separator : str
        One character.
    quote : str
        One character; doubled within a cell, unless there is an escape.
    escape : str
        One character, or empty.
    """

    separator: str = ","
    quote: str = '"'
    escape: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the cells of a file are.

    Parameters
    ----------
    format : Format
        How its lines are cut.
    n_above : int
        Lines above the header.
    n_skipped : int
        Lines above the first row: these and the header's.
    names : tuple of str
        Cells of the header, filled with empty ones up to the width of the rows.
    is_empty : bool
        Whether there is no line below the header.
    """

    format: Format
    n_above: int
    n_skipped: int
    names: tuple[str, ...]
    is_empty: bool


def find_layout(text: str, separator: str = "") -> Layout:
    """Find the layout of a file by its first lines.

    Parameters
    ----------
    text : str
        Its first lines, the header among them.
    separator : str
        One character; empty to find it.

    Returns
    -------
    Layout
        Its layout.

    Raises
    ------
    TableFileError
        If the first line is a title rather than a header.
    """
    n_above, body, stated = _skip_remarks(text)
    form = _find_format(body, separator or stated or _SEPARATORS)
    rows = _cut(body, form)
    if not rows or len(rows) == len(rows[0]) == 1:
        raise TableFileError("it has no lines below a line with names")
    header = tuple(rows[0])
    _refuse_title(header, rows[1:], n_above)
    n_skipped = n_above + _count_lines(body, form)
    is_empty = next(islice(_split_lines(text), n_skipped, None), None) is None
    return Layout(form, n_above, n_skipped, _fit_names(header, rows[1:]), is_empty)


def _skip_remarks(text: str) -> tuple[int, str, str]:
    """Return the number of remarks above the header, the rest, and the separator they state."""
    n_skipped, n_characters, separator = 0, 0, ""
    for line, following in pairwise(chain(_split_lines(text), [""])):
        stated = _SEP_LINE.fullmatch(line)
        if stated:
            separator = stated[1]
        elif line.strip() and not _is_remark(line, following):
            break
        n_skipped += 1
        n_characters += len(line)
    return n_skipped, text[n_characters:], separator


def _is_remark(line: str, following: str) -> bool:
    """Return whether a line begins with # and is not a header such as "#id,age"."""
    if not line.startswith("#"):
        return False
    for separator in _SEPARATORS:
        cells = following.split(separator)
        if len(cells) > 1 and line.count(separator) == len(cells) - 1:
            return not any(map(_NUMBER.fullmatch, cells))
    return True


def _find_format(text: str, separators: str) -> Format:
    is_free = separators == _SEPARATORS
    for separator in separators + (_RARE_SEPARATORS if is_free else ""):
        if _fits(text, Format(separator)):
            return Format(separator)
    if is_free and _is_of_write_table(text):
        return Format(" ")
    return _find_most_even(text, separators)


def _find_most_even(text: str, separators: str) -> Format:
    """Return the format that cuts the most lines alike: quotes and escapes are not plain."""
    forms = (Format(s, quote) for s in separators for quote in _list_quotes(text, s))
    found = max(forms, key=partial(_count_alike, text))
    if not _count_alike(text, found):
        return Format(separators[-1])
    has_escapes = f"\\{found.quote}" in text and not _is_strict(text, found)
    return replace(found, escape="\\") if has_escapes else found


def _list_quotes(text: str, separator: str) -> str:
    """Return the quotes that cells may have: single ones only if more cells begin with them."""
    begin = f"(?:^|{re.escape(separator)})([\"'])"
    found = re.findall(begin, text[:SNIFFED_CHARACTERS], re.MULTILINE)
    return "'\"" if 2 * found.count("'") > len(found) else '"'


def _count_alike(text: str, form: Format) -> int:
    """Return how many lines have equally many cells, two or more."""
    widths = Counter(len(row) for row in _cut(text, form) if len(row) > 1)
    return max(widths.values(), default=0)


def _is_strict(text: str, form: Format) -> bool:
    """Return whether each quote of a cell is doubled, or at one of its ends."""
    try:
        _cut(text, form, is_strict=True)
    except csv.Error:
        return False
    return True


def _fits(text: str, form: Format) -> bool:
    """Return whether a format cuts all lines into the same number of cells, two or more."""
    widths = {len(row) for row in _cut(text, form)}
    if len(widths) != 1 or widths == {1}:
        return False
    return not text.startswith("'") and '\\"' not in text


def _is_of_write_table(text: str) -> bool:
    """Return whether spaces cut all lines evenly, as R's write.table does without other arguments.

    Its header has no cell for the names of the rows.
    """
    header, *rows = _cut(text, Format(" ")) or [[]]
    widths = {len(row) for row in rows}
    is_even = len(widths) == 1 and widths <= {len(header), len(header) + 1}
    has_others = any(separator in cell for cell in header for separator in _SEPARATORS)
    return is_even and len(header) > 1 and not has_others


def _cut(text: str, form: Format, *, is_strict: bool = False) -> list[list[str]]:
    """Return the cells of the first lines that are not empty."""
    with _long_cells(text):
        reader = _read(text, form, is_strict)
        return list(islice((row for row in reader if row), SNIFFED_ROWS))


def _count_lines(text: str, form: Format) -> int:
    """Return how many lines a header has: more than one if names have line ends."""
    with _long_cells(text):
        reader = _read(text, form)
        next(reader, None)
        n_lines: int = reader.line_num
    return n_lines


def _read(text: str, form: Format, is_strict: bool = False) -> Any:
    return csv.reader(
        _split_lines(text),
        delimiter=form.separator,
        quotechar=form.quote,
        escapechar=form.escape or None,
        doublequote=not form.escape,
        strict=is_strict,
    )


@contextmanager
def _long_cells(text: str) -> Iterator[None]:
    """Let the library read a cell as long as the text; it has one limit for all its readers."""
    before = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _split_lines(text: str) -> Iterator[str]:
    return (line[0] for line in _LINE.finditer(text))


def _fit_names(header: tuple[str, ...], rows: list[list[str]]) -> tuple[str, ...]:
    """Return a name for each cell of a row, where lines end with a separator too many."""
    widths = {len(row) for row in rows}
    if len(header) > 1 and widths == {len(header) - 1} and header[-1] == "":
        return header[:-1]
    if widths == {len(header) + 1}:
        # R's write.table leaves out the name of the row names; else the last cells are empty.
        is_trailing = not any(row[-1] for row in rows)
        return (*header, "") if is_trailing else ("", *header)
    return header


def _refuse_title(header: tuple[str, ...], rows: list[list[str]], n_above: int) -> None:
    """Refuse a first line with a single cell above lines with several."""
    if any(header[1:]) or not rows:
        return
    [(width, _)] = Counter(map(len, rows)).most_common(1)
    # A title alone in its line, or in that of a spreadsheet, filled up with separators.
    if len(header) > 2 or (len(header) == 1 and width > 1):
        raise TableFileError(
            f"line {n_above + 1} is {header[0]!r}, which is no header for the {width} cells of the "
            "lines below; remove the lines above the header"
        )
