"""The kinds of features: which values each takes, and the number that stands for one in a row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from math import isfinite, nan
from typing import Generic, Protocol, TypeAlias, TypeVar

from grpc_server.errors import ArtifactCorrupt
from prediction.artifact.v1 import model_artifact_pb2

# Beyond it a double has no digit for every whole number.
_MAX_INTEGER = 2**53
MAX_SHOWN_CHARACTERS = 80

Scalar: TypeAlias = float | str | bool
_T = TypeVar("_T", str, int)


class Kind(Protocol):
    """What every kind of feature offers; the value that it encodes is of the type it asks for."""

    @property
    def member(self) -> str:
        """The field of a google.protobuf.Value in which a value comes."""
        ...

    @property
    def column_field(self) -> str:
        """The field of a Column in which the values of a batch come."""
        ...

    @property
    def allowed(self) -> str:
        """What a caller may send, in words."""
        ...

    def encode(self, value: Scalar) -> float | None:
        """Return the number that stands for a value that is not missing, None if not allowed."""
        ...


@dataclass(frozen=True, slots=True)
class Numeric:
    """Finite numbers, which stand for themselves."""

    member = "number_value"
    column_field = "doubles"
    allowed = "a finite number"

    def encode(self, value: Scalar) -> float | None:
        """Return the number, as `Kind` says."""
        return value if isinstance(value, float) and isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Boolean:
    """Truth values: 1 for true, 0 for false."""

    member = "bool_value"
    column_field = "booleans"
    allowed = "true or false"

    def encode(self, value: Scalar) -> float | None:
        """Return 1 or 0, as `Kind` says."""
        return float(value) if isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class _Categories(Generic[_T]):
    """One of a few values; its position among them stands for it.

    Parameters
    ----------
    codes : mapping of str or int to float
        Position of each category, in their order.
    refuse_unknown : bool
        Whether another value is not allowed; otherwise NaN stands for it.
    """

    codes: Mapping[_T, float]
    refuse_unknown: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """The categories as text."""
        return tuple(map(str, self.codes))

    @property
    def _otherwise(self) -> float | None:
        return None if self.refuse_unknown else nan


class TextCategories(_Categories[str]):
    """Categories that are texts."""

    __slots__ = ()
    member = "string_value"
    column_field = "strings"

    @property
    def allowed(self) -> str:
        """What a caller may send, in words."""
        known = list_first(map(quote, self.codes))
        return f"one of {known}" if self.refuse_unknown else f"a text such as {known}"

    def encode(self, value: Scalar) -> float | None:
        """Return the position, as `Kind` says."""
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
        """What a caller may send, in words."""
        known = list_first(map(str, self.codes))
        if self.refuse_unknown:
            return f"one of {known}"
        return f"a whole number such as {known}"

    def encode(self, value: Scalar) -> float | None:
        """Return the position, as `Kind` says."""
        if not isinstance(value, float) or not value.is_integer():
            return None
        return self.codes.get(int(value), self._otherwise)


def read_kind(message: model_artifact_pb2.Feature) -> Kind:
    """Read the kind of a feature of the artifact.

    Raises
    ------
    ArtifactCorrupt
        If this server does not know it, or its categories are none, not unique or out of range.
    """
    name, categorical = quote(message.name), message.categorical
    match message.WhichOneof("kind"), categorical.WhichOneof("categories"):
        case "numeric", _:
            return Numeric()
        case "boolean", _:
            return Boolean()
        case "categorical", "strings":
            texts = categorical.strings.values
            return TextCategories(_codes(name, texts), categorical.refuse_unknown)
        case "categorical", "integers":
            integers = categorical.integers.values
            if any(abs(value) > _MAX_INTEGER for value in integers):
                raise ArtifactCorrupt(
                    f"feature {name} has a category beyond 2^53 in magnitude"
                )
            return IntegerCategories(_codes(name, integers), categorical.refuse_unknown)
        case _:
            raise ArtifactCorrupt(
                f"feature {name} is of a kind that this server does not know; "
                "a newer server may"
            )


def show(value: Scalar) -> str:
    """Return a value as an error repeats it."""
    if isinstance(value, str):
        return f"the text {quote(value)}"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    return str(value)


def quote(text: str) -> str:
    """Return a text as an error repeats it: quoted, and with what cannot be seen written out.

    An error is a line of a header or a log, and its size is bounded there.
    """
    # No more of it is looked at than is shown.
    written = "".join(map(_write_out, text[: MAX_SHOWN_CHARACTERS + 1]))
    return f'"{shorten(written)}"'


def list_names(names: Iterable[str]) -> str:
    """Return names as an error lists them: quoted where one could not tell where they end."""
    return list_first(name if _is_plain(name) else quote(name) for name in names)


def list_first(shown: Iterable[str]) -> str:
    """Return as many items of a list as an error has room for, however long the list is."""
    # Each takes one character or more.
    return shorten(", ".join(islice(shown, MAX_SHOWN_CHARACTERS)))


def shorten(text: str) -> str:
    """Bound what an error repeats, since its size is bounded on the wire."""
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
        raise ArtifactCorrupt(f"feature {name} has no categories, or one twice")
    return codes
