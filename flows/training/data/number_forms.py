"""Numbers as people write them: $1,200.50, 12.5%, 3,5, 70.1 kg."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from training.data.gaps import is_number_gap
from training.text import MAX_SHOWN, shorten_list

# Above this share of numbers, a column holds numbers; the other cells need an explanation.
MOST = 0.5
# Above this share of numbers, the other cells are taken for gaps.
NEARLY_ALL = 0.9
# A column with more different texts than this has no categories that a person would list.
MAX_LISTED = 100
# A column of so many different numbers and so few other texts holds numbers, with many gaps.
MIN_DIFFERENT = 20
MAX_OTHERS = 3

_CURRENCY = (
    r"[$€£¥₹₽₩₺₴₦₱฿₫₪]|(?:US|C|CA|A|AU|NZ|HK|S|R)\$|Rs\.?(?![^\W\d_])"
    r"|(?:USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|SGD|HKD|KRW)"
    r"(?![^\W\d_])"
)
_WORD = r"(?:(?:[cdkmµ]?m|ft|in)\^?[23]|[^\W\d_]{1,12}[²³]?)"
_UNIT = (
    rf"%|‰|{_CURRENCY}|°\s?[CF]?|sq\.?\s?(?:k?m|ft|feet|mi|miles)\.?|mm\s?Hg"
    rf"|{_WORD}\.?(?:\s?/\s?(?:100\s?)?{_WORD})?"
)
# Thousands, millions and billions of money.
_SCALE = re.compile(r"[kKmMbBtT]|mn|Mio\.?|bn|Mrd\.?")
_FORTRAN = re.compile(r"\d[dD][-+]")
# What programs and people put around a number: Excel's ="1.5", a second pair of quotes, a list of
# one number, and "about".
_WRAPPING = re.compile(r"""=?"([^"]*)"|'([^']*)'|\[([^\]]*)\]|[~≈]\s?(.*)""")
_DRESSED = re.compile(
    # Each space can be matched in one way only, so that a text of thousands of them takes no time.
    rf"(?P<open>\()?\s*(?:(?P<sign>[-+−])\s*)?(?:(?P<before>{_CURRENCY})\s*)?(?P<sign2>[-+−])?"
    rf"(?P<digits>[.,]?\d(?:[\d.,'’]|[ \u00a0\u202f](?=\d{{3}}))*)"
    # Fortran writes 1.5D+03, and SAP a minus behind the digits.
    rf"(?P<exponent>[eE][-+]?\d+|[dD][-+]\d+)?(?P<sign3>[-−])?"
    rf"\s*(?:(?P<after>{_UNIT})\s*)?(?P<close>\))?"
)
# Nobody separates the thousands of a number that begins with 0. In India, hundreds of thousands are
# separated too.
_POINT = re.compile(
    r"(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d?(?:,\d\d)+,\d{3}"
    r"|[1-9]\d{0,2}(?:['’ \u00a0\u202f]\d{3})+|\d+)?(?:\.\d*)?"
)
_COMMA = re.compile(
    r"(?:[1-9]\d{0,2}(?:\.\d{3})+|[1-9]\d{0,2}(?:['’ \u00a0\u202f]\d{3})+|\d+)?(?:,\d*)?"
)
_FORMS = {".": _POINT, ",": _COMMA}


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of a column of text.

    Parameters
    ----------
    values : mapping of str to float
        The number that each text stands for.
    others : tuple of str
        Texts that are no numbers, most frequent first.
    n_numbers, n_cells : int
        How many cells are numbers, and how many there are.
    form : str
        What the numbers have beyond digits and a decimal point, such as "decimal commas"; empty if
        there is nothing.
    example : str
        A text in that form; empty if there is none.
    units : tuple of str
        Units that occur, most frequent first.
    is_ambiguous : bool
        Whether the commas may be decimal commas as well as separators of thousands.
    decimal : str
        The decimal mark by which the texts were read.
    """

    values: Mapping[str, float]
    others: tuple[str, ...]
    n_numbers: int
    n_cells: int
    form: str
    example: str
    units: tuple[str, ...]
    is_ambiguous: bool
    decimal: str

    @property
    def share(self) -> float:
        """The share of cells that are numbers, in [0, 1]."""
        return self.n_numbers / self.n_cells if self.n_cells else 0.0

    @property
    def are_most(self) -> bool:
        """Whether the column holds numbers, though most of its cells may be gaps."""
        is_gap = all(map(is_number_gap, self.others)) and len(self.values) > 1
        are_many = len(self.values) >= MIN_DIFFERENT and len(self.others) <= MAX_OTHERS
        return self.share > MOST or is_gap or are_many

    @property
    def are_categories(self) -> bool:
        """Whether the texts are too few and too unlike for numbers, as "1 room" and "2 rooms"."""
        return len(self.units) > 1 and len(self.values) <= MAX_LISTED

    @property
    def are_explained(self) -> bool:
        """Whether the texts that are no numbers can be taken for gaps."""
        return self.share >= NEARLY_ALL or all(map(is_number_gap, self.others))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text taken apart: its sign, its digits with their marks, its exponent and its unit."""

    sign: str
    digits: str
    exponent: str
    unit: str

    def read(self, decimal: str) -> float | None:
        """Return the number for a decimal mark; None if the digits do not fit it."""
        if not _FORMS[decimal].fullmatch(self.digits):
            return None
        thousands = "." if decimal == "," else ","
        digits = re.sub(rf"[{thousands}'’ \u00a0\u202f]", "", self.digits)
        return float(self.sign + digits.replace(",", ".") + self.exponent)


def read_forms(counts: Mapping[str, int], decimal: str = "") -> Numbers:
    """Read texts as numbers.

    Parameters
    ----------
    counts : mapping of str to int
        How many cells have each text, most frequent first.
    decimal : str
        The decimal mark, "." or ","; empty to decide by the texts. They decide for the one that
        fits more cells, and for the point if both fit as many.

    Returns
    -------
    Numbers
        The numbers.
    """
    pieces = {text: piece for text in counts if (piece := _take_apart(text))}
    readings = {
        mark: _read_all(pieces, mark)
        for mark in ((decimal,) if decimal else (".", ","))
    }
    fits = {
        mark: sum(counts[text] for text in values) for mark, values in readings.items()
    }
    mark = max(fits, key=lambda mark: fits[mark])
    values = readings[mark]
    read = {text: pieces[text] for text in values}
    form, example = _describe(read, mark)
    units: Counter[str] = Counter()
    for text, piece in read.items():
        units[piece.unit] += counts[text]
    return Numbers(
        values=values,
        others=tuple(text for text in counts if text not in values),
        n_numbers=fits[mark],
        n_cells=sum(counts.values()),
        form=form,
        example=example,
        units=tuple(unit for unit, _ in units.most_common() if unit),
        is_ambiguous=len(fits) > 1
        and len(set(fits.values())) == 1
        and readings["."] != readings[","],
        decimal=mark,
    )


def _take_apart(text: str) -> _Piece | None:
    match = _DRESSED.fullmatch(unwrap(text))
    if match is None or bool(match["open"]) != bool(match["close"]):
        return None
    signs = "".join(match[name] or "" for name in ("sign", "sign2", "sign3"))
    before, after = match["before"] or "", match["after"] or ""
    is_scaled = bool(_SCALE.fullmatch(after))
    if (
        len(signs) > 1
        or (match["open"] and signs)
        or (before and after and not is_scaled)
    ):
        return None
    sign = "-" if match["open"] or signs in ("-", "−") and signs else ""
    exponent = (match["exponent"] or "").replace("D", "e").replace("d", "e")
    return _Piece(sign, match["digits"], exponent, before + after)


def unwrap(text: str) -> str:
    """Return a text without what may be around a number."""
    match = _WRAPPING.fullmatch(text)
    inner = match[match.lastindex or 0].strip() if match else text
    return inner if inner[:1].isalnum() or inner[:1] in "+-." else text


def _read_all(pieces: Mapping[str, _Piece], decimal: str) -> dict[str, float]:
    values = {text: piece.read(decimal) for text, piece in pieces.items()}
    return {text: value for text, value in values.items() if value is not None}


def _describe(pieces: Mapping[str, _Piece], decimal: str) -> tuple[str, str]:
    """Say what the numbers have beyond digits and a point; the second value is an example."""
    parts: dict[str, str] = {}
    for text, piece in pieces.items():
        if decimal == "," and "," in piece.digits:
            parts.setdefault("decimal commas", text)
        thousands = piece.digits.split(decimal)[0]
        if not thousands.isdigit() and thousands:
            parts.setdefault("separators of thousands", text)
        if piece.unit:
            parts.setdefault(f"the unit {piece.unit!r}", text)
        if text.startswith("("):
            parts.setdefault("parentheses for negative numbers", text)
        if unwrap(text) != text:
            parts.setdefault("marks around them", text)
        if text.endswith(("-", "−")):
            parts.setdefault("a minus behind them", text)
        if _FORTRAN.search(text):
            parts.setdefault("exponents of Fortran", text)
    return shorten_list(list(parts)), next(iter(parts.values()), "")


def list_texts(texts: tuple[str, ...]) -> str:
    """List the first few texts in quotes."""
    return shorten_list([repr(text[:40]) for text in texts[:MAX_SHOWN]], len(texts))
