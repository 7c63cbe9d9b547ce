"""The layout of a CSV file: what separates its cells, and where its header is."""

import csv
import io
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

from training.errors import DataError

SNIFFED_ROWS = 1000
SNIFFED_CHARACTERS = 2**18
SEPARATORS = ",;\t|"
# Hive and others separate by characters that hardly occur in text.
_RARE_SEPARATORS = "^~:\x01\x1f"
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
    n_skipped : int
        Lines above the header.
    names : tuple of str
        Cells of the header, filled with empty ones up to the width of the rows.
    header : tuple of str
        Cells of the header as they are.
    is_empty : bool
        Whether there is no row below the header.
    """

    format: Format
    n_skipped: int
    names: tuple[str, ...]
    header: tuple[str, ...]
    is_empty: bool

    @property
    def is_ragged(self) -> bool:
        """Whether the header has more cells, or fewer, than the rows."""
        return len(self.header) != len(self.names)


def find_layout(path: Path, text: str) -> Layout:
    """Find the layout of a file by its first lines.

    Parameters
    ----------
    path : Path
        The file, for messages.
    text : str
        Its first lines, the header among them.

    Returns
    -------
    Layout
        Its layout.

    Raises
    ------
    DataError
        If the first line is a title rather than a header.
    """
    n_skipped, body, separator = _skip_remarks(text)
    form = Format(separator) if separator else _find_format(body)
    rows = _cut(body, form)
    if not rows or len(rows) == len(rows[0]) == 1:
        raise DataError(
            f"{path} is not a CSV table: it has no lines below a line with names"
        )
    header = tuple(rows[0])
    _refuse_title(path, header, rows[1:], n_skipped)
    names = _fit_names(header, rows[1:])
    return Layout(form, n_skipped, names, header, is_empty=len(rows) == 1)


def _skip_remarks(text: str) -> tuple[int, str, str]:
    """Return the number of remarks above the header, the rest, and the separator they state."""
    lines = list(io.StringIO(text, newline=""))
    n_skipped, separator = 0, ""
    for line, following in pairwise([*lines, ""]):
        stated = _SEP_LINE.fullmatch(line)
        if stated:
            separator = stated[1]
        elif line.strip() and not _is_remark(line, following):
            break
        n_skipped += 1
    return n_skipped, "".join(lines[n_skipped:]), separator


def _is_remark(line: str, following: str) -> bool:
    """Return whether a line begins with # and is not a header such as "#id,age"."""
    if not line.startswith("#"):
        return False
    for separator in SEPARATORS:
        cells = following.split(separator)
        if len(cells) > 1 and line.count(separator) == len(cells) - 1:
            return not any(map(_NUMBER.fullmatch, cells))
    return True


def _find_format(text: str) -> Format:
    # In files with decimal commas, commas may cut each line evenly too; so they come last.
    for separator in "\t;|,":
        if _fits(text, Format(separator)):
            return Format(separator)
    if _is_of_write_table(text):
        return Format(" ")
    sniffed = _sniff(text)
    if any(len(row) > 1 for row in _cut(text, sniffed)):
        return sniffed
    rare = (form for form in map(Format, _RARE_SEPARATORS) if _fits(text, form))
    return next(rare, _widest(text))


def _fits(text: str, form: Format) -> bool:
    """Return whether a format cuts all lines into the same number of cells, two or more."""
    try:
        widths = {len(row) for row in _cut(text, form)}
    except csv.Error:
        # A line that the separator does not cut may be longer than a cell can be.
        return False
    has_other_quotes = text.startswith("'") or '\\"' in text
    return len(widths) == 1 and widths != {1} and not has_other_quotes


def _is_of_write_table(text: str) -> bool:
    """Return whether spaces cut all lines evenly, as R's write.table does without other arguments.

    Its header has no cell for the names of the rows.
    """
    header, *rows = _cut(text, Format(" ")) or [[]]
    widths = {len(row) for row in rows}
    is_even = len(widths) == 1 and widths <= {len(header), len(header) + 1}
    has_others = any(separator in cell for cell in header for separator in SEPARATORS)
    return is_even and len(header) > 1 and not has_others


def _widest(text: str) -> Format:
    """Return the format whose separator is most frequent in the first line; by default a comma."""
    first = text.splitlines()[0] if text.strip() else ""
    return Format(max(SEPARATORS, key=first.count))


def _sniff(text: str) -> Format:
    """Ask DuckDB, which tries all formats on the lines and takes the one with the fewest faults."""
    # The import takes a quarter of a second and 35 MB, which plain tables do not need.
    import duckdb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.csv"
        path.write_text(text[:SNIFFED_CHARACTERS], encoding="utf-8", newline="")
        query = (
            "SELECT Delimiter, Quote, Escape FROM sniff_csv(?, all_varchar = true, "
            f"sample_size = {SNIFFED_ROWS})"
        )
        try:
            with duckdb.connect(config={"threads": 1}) as connection:
                found = connection.execute(query, [str(path)]).fetchone()
        except duckdb.Error:
            # No format fits; the reader names the line that does not.
            return _widest(text)
    assert found is not None
    separator, quote, escape = ("" if x in (None, "(empty)") else x for x in found)
    return Format(separator or ",", quote or '"', "" if escape == quote else escape)


def _cut(text: str, form: Format) -> list[list[str]]:
    """Return the cells of the first lines that are not empty."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=form.separator,
        quotechar=form.quote,
        escapechar=form.escape or None,
        doublequote=not form.escape,
    )
    return list(islice((row for row in reader if row), SNIFFED_ROWS))


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


def _refuse_title(
    path: Path, header: tuple[str, ...], rows: list[list[str]], n_skipped: int
) -> None:
    """Refuse a first line with a single cell above lines with several."""
    if any(header[1:]) or not rows:
        return
    [(width, _)] = Counter(map(len, rows)).most_common(1)
    # A title alone in its line, or in that of a spreadsheet, filled up with separators.
    if len(header) > 2 or (len(header) == 1 and width > 1):
        raise DataError(
            f"{path} is not a CSV table: line {n_skipped + 1} is {header[0]!r}, which is no header "
            f"for the {width} cells of the lines below; remove the lines above the header"
        )
