"""The kinds of features: the values that each allows, and the number that encodes a value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from math import isfinite, nan
from typing import Generic, Protocol, TypeAlias, TypeVar

from date_columns.forms import DATE, TIME, DateForm
from date_columns.parts import PARTS
from grpc_server.errors import ArtifactCorrupt
from prediction.artifact.v1 import model_artifact_pb2

# A double holds every integer up to this magnitude.
MAX_INTEGER = 2**53
MAX_SHOWN_CHARACTERS = 80

PART_NUMBERS: Mapping[str, int] = {
    "days": model_artifact_pb2.DATE_PART_DAYS,
    "year": model_artifact_pb2.DATE_PART_YEAR,
    "month": model_artifact_pb2.DATE_PART_MONTH,
    "weekday": model_artifact_pb2.DATE_PART_WEEKDAY,
    "hour": model_artifact_pb2.DATE_PART_HOUR,
    "seconds": model_artifact_pb2.DATE_PART_SECONDS,
}

Scalar: TypeAlias = float | str | bool
_T = TypeVar("_T", str, int)


class Kind(Protocol):
    """A kind of feature: how its values are sent and encoded."""

    @property
    def member(self) -> str:
        """The field of a google.protobuf.Value that carries a value."""
        ...

    @property
    def column_field(self) -> str:
        """The field of a Column that carries the values of a batch."""
        ...

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        ...

    def encode(self, value: Scalar) -> float | None:
        """Return the number that encodes a value, None if the value is not allowed.

        The value is not missing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Numeric:
    """Finite numbers, encoded as themselves."""

    member = "number_value"
    column_field = "doubles"
    allowed = "a finite number"

    def encode(self, value: Scalar) -> float | None:
        """Return the number itself; see `Kind`."""
        return value if isinstance(value, float) and isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Boolean:
    """Booleans, encoded as 1 and 0."""

    member = "bool_value"
    column_field = "booleans"
    allowed = "true or false"

    def encode(self, value: Scalar) -> float | None:
        """Return 1 or 0; see `Kind`."""
        return float(value) if isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class TargetMean:
    """A number that stands for the position of a category, in a model with target means.

    Parameters
    ----------
    values : tuple of float, shape (n_categories,)
        Number of each category.
    missing : float
        Number of a missing value.
    """

    values: tuple[float, ...]
    missing: float


@dataclass(frozen=True, slots=True)
class _Categories(Generic[_T]):
    """One of several categories, encoded as its position.

    Parameters
    ----------
    codes : mapping of str or int to float
        Position of each category, from 0.
    refuse_unknown : bool
        Whether a value that is no category is refused; otherwise it is encoded as NaN.
    means : tuple of TargetMean
        Numbers that the estimator gets of a position; empty if it gets the position.
    """

    codes: Mapping[_T, float]
    refuse_unknown: bool
    means: tuple[TargetMean, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The categories as text."""
        return tuple(map(str, self.codes))

    @property
    def _otherwise(self) -> float | None:
        return None if self.refuse_unknown else nan


class TextCategories(_Categories[str]):
    """Categories that are strings."""

    __slots__ = ()
    member = "string_value"
    column_field = "strings"

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        known = list_first(map(quote, self.codes))
        return f"one of {known}" if self.refuse_unknown else f"a text such as {known}"

    def encode(self, value: Scalar) -> float | None:
        """Return the position; see `Kind`."""
        if not isinstance(value, str):
            return None
        return self.codes.get(value, self._otherwise)


class IntegerCategories(_Categories[int]):
    """Categories that are whole numbers."""

    __slots__ = ()
    member = "number_value"
    column_field = "doubles"

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        known = list_first(map(str, self.codes))
        if self.refuse_unknown:
            return f"one of {known}"
        return f"a whole number such as {known}"

    def encode(self, value: Scalar) -> float | None:
        """Return the position; see `Kind`."""
        if not isinstance(value, float) or not value.is_integer():
            return None
        return self.codes.get(int(value), self._otherwise)


class _Temporal:
    """Text in the form of its column, encoded as seconds.

    Parameters
    ----------
    form : DateForm
        Form of the texts.
    parts : tuple of str
        Names of the numbers that the estimator gets, in `date_columns.parts.PARTS`.
    """

    __slots__ = ("form", "parts")
    member = "string_value"
    column_field = "strings"

    def __init__(self, form: DateForm, parts: tuple[str, ...]) -> None:
        self.form = form
        self.parts = parts

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        return self.form.allowed

    def encode(self, value: Scalar) -> float | None:
        """Return the seconds; see `Kind`."""
        return self.form.parse(value) if isinstance(value, str) else None


class Date(_Temporal):
    """Dates, with or without a time of day: seconds since 1970-01-01T00:00:00Z."""

    __slots__ = ()


class TimeOfDay(_Temporal):
    """Times of day: seconds since midnight."""

    __slots__ = ()


def read_kind(message: model_artifact_pb2.Feature) -> Kind:
    """Read the kind of a feature from the artifact.

    Raises
    ------
    ArtifactCorrupt
        If the kind is unknown, or its categories are missing, not unique or out of range.
    """
    name, categorical = quote(message.name), message.categorical
    match message.WhichOneof("kind"), categorical.WhichOneof("categories"):
        case "numeric", _:
            return Numeric()
        case "boolean", _:
            return Boolean()
        case "date", _:
            return Date(*_read_form(name, DATE, message.date))
        case "time", _:
            return TimeOfDay(*_read_form(name, TIME, message.time))
        case "categorical", "strings":
            texts = categorical.strings.values
            return TextCategories(
                _codes(name, texts),
                categorical.refuse_unknown,
                _read_means(name, categorical, len(texts)),
            )
        case "categorical", "integers":
            integers = categorical.integers.values
            if any(abs(value) > MAX_INTEGER for value in integers):
                raise ArtifactCorrupt(
                    f"feature {name} has a category outside of [-2^53, 2^53]"
                )
            return IntegerCategories(
                _codes(name, integers),
                categorical.refuse_unknown,
                _read_means(name, categorical, len(integers)),
            )
        case _:
            raise ArtifactCorrupt(
                f"feature {name} is of an unknown kind; a newer server may know it"
            )


def _read_means(
    name: str, message: model_artifact_pb2.CategoricalFeature, n_categories: int
) -> tuple[TargetMean, ...]:
    """Return the target means, one for each output; empty if there are none."""
    if not message.HasField("means"):
        return ()
    values, missing = tuple(message.means.values), tuple(message.means.missing)
    if not missing or len(values) != len(missing) * n_categories:
        raise ArtifactCorrupt(
            f"feature {name} has {len(values)} target means and {len(missing)} for missing "
            f"values; its {n_categories} categories need one for each output"
        )
    if not all(map(isfinite, (*values, *missing))):
        raise ArtifactCorrupt(f"feature {name} has a target mean that is not finite")
    starts = range(0, len(values), n_categories)
    return tuple(
        TargetMean(values[start : start + n_categories], of_gap)
        for start, of_gap in zip(starts, missing, strict=True)
    )


def _read_form(
    name: str,
    kind: str,
    message: model_artifact_pb2.DateFeature | model_artifact_pb2.TimeFeature,
) -> tuple[DateForm, tuple[str, ...]]:
    """Return the form and the names of the parts."""
    if len(message.format) > MAX_SHOWN_CHARACTERS:
        raise ArtifactCorrupt(f"feature {name} has a format that is too long")
    try:
        form = DateForm(kind, message.format)
    except ValueError as error:
        raise ArtifactCorrupt(f"feature {name}: {error}") from None
    known = {PART_NUMBERS[part]: part for part in PARTS[kind]}
    parts = tuple(known.get(part, "") for part in message.parts)
    if not parts or len(set(parts)) != len(parts) or "" in parts:
        raise ArtifactCorrupt(
            f"feature {name} has no parts, a part twice, or one that is unknown"
        )
    return form, parts


def show(value: Scalar) -> str:
    """Return a value as an error message shows it."""
    if isinstance(value, str):
        return f"the text {quote(value)}"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    return str(value)


def quote(text: str) -> str:
    """Return a text as an error message shows it: quoted, escaped, and shortened.

    An error message has to fit into one line of a header or a log.
    """
    # The rest is not shown, so it is not escaped either.
    written = "".join(map(_write_out, text[: MAX_SHOWN_CHARACTERS + 1]))
    return f'"{shorten(written)}"'


def list_names(names: Iterable[str]) -> str:
    """Return a list of names for an error message; names that would be ambiguous are quoted."""
    return list_first(name if _is_plain(name) else quote(name) for name in names)


def list_first(shown: Iterable[str]) -> str:
    """Return a comma-separated list, shortened to `MAX_SHOWN_CHARACTERS`."""
    # Each item takes one character or more.
    return shorten(", ".join(islice(shown, MAX_SHOWN_CHARACTERS)))


def shorten(text: str) -> str:
    """Shorten a text to `MAX_SHOWN_CHARACTERS`: the size of an error is limited on the wire."""
    if len(text) <= MAX_SHOWN_CHARACTERS:
        return text
    return text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def _write_out(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


def _is_plain(name: str) -> bool:
    is_bounded = 0 < len(name) <= MAX_SHOWN_CHARACTERS and name == name.strip()
    return is_bounded and name.isprintable() and not set(name) & set(',"\\')


def _codes(name: str, values: Iterable[_T]) -> Mapping[_T, float]:
    categories = list(values)
    codes = {category: float(code) for code, category in enumerate(categories)}
    if not codes or len(codes) != len(categories):
        raise ArtifactCorrupt(f"feature {name} has no categories, or a category twice")
    return codes
