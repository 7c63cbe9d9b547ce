"""How a CSV file is written, found by its first lines."""

from dataclasses import dataclass
from pathlib import Path

from table_files.csv_layout import Format, Layout, find_layout
from table_files.errors import TableFileError
from table_files.packed_file import strip_packing
from table_files.text_file import (
    HEAD_BYTES,
    decode_head,
    find_encoding,
    refuse_other_kinds,
)

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
_SEPARATOR_NAMES = {"\t": "tab", " ": "space"}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a file before it is read.

    Parameters
    ----------
    encoding : str
        Name of a codec; empty to find it.
    separator : str
        One character; empty to find it.
    """

    encoding: str = ""
    separator: str = ""


NOTHING_KNOWN = Known()


@dataclass(frozen=True, slots=True)
class CsvForm:
    """How a file is written.

    Parameters
    ----------
    encoding : str
        Name of a codec.
    layout : Layout
        Where its cells are.
    """

    encoding: str
    layout: Layout

    @property
    def is_utf8(self) -> bool:
        """Whether its bytes are UTF-8, perhaps with a mark at their beginning."""
        return self.encoding.replace("-", "").lower() in ("utf8", "utf8sig")

    def describe(self, example: str = "") -> str:
        """Return what is not plain CSV in UTF-8, in words; empty if all is plain.

        Parameters
        ----------
        example : str
            What follows an encoding other than UTF-8.
        """
        found = []
        form = self.layout.format
        if form != Format():
            name = _SEPARATOR_NAMES.get(form.separator, form.separator)
            found.append(f"separator {name!r}")
        if form.quote != '"' or form.escape:
            found.append(f"quote {form.quote!r}, escape {form.escape!r}")
        if not self.is_utf8:
            found.append(f"encoding {self.encoding}{example}")
        if self.layout.n_above:
            found.append(f"line {self.layout.n_above + 1} is the header")
        return ", ".join(found)

    def check_end(self, last: str, end: str) -> None:
        """Raise TableFileError if a quote begins the last cell and nothing closes it.

        Parameters
        ----------
        last : str
            The last cell of the last row.
        end : str
            The last characters of the file, without line ends.
        """
        is_long = "\n" in last or "\r" in last
        if is_long and not end.endswith(self.layout.format.quote):
            raise TableFileError(
                f"nothing closes the quote before {last[:40]!r}; correct it"
            )


def is_csv_name(name: str) -> bool:
    """Return whether a file's name is one of CSV, compressed or not."""
    return strip_packing(name).lower().endswith(CSV_SUFFIXES)


def find_csv_form(path: Path, head: bytes, known: Known = NOTHING_KNOWN) -> CsvForm:
    """Find how a CSV file is written.

    Parameters
    ----------
    path : Path
        The file. All of it is read, unless its encoding is known.
    head : bytes
        Return value of `read_head`.
    known : Known
        What is known of it.

    Returns
    -------
    CsvForm
        How it is written.

    Raises
    ------
    TableFileError
        If it is no CSV table, or its text is none of the known encoding.
    OSError
        If it cannot be read.
    """
    refuse_other_kinds(head)
    encoding = known.encoding or find_encoding(path, head)
    layout = find_layout(decode_head(head, encoding), known.separator)
    if layout.is_empty and len(head) == HEAD_BYTES:
        raise TableFileError(
            "the header and the first row have over 16 MiB, as after a quote that nothing closes; "
            "correct it"
        )
    return CsvForm(encoding, layout)
