"""The input schema: turns what a caller sent into one row, or says what does not fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan
from typing import cast

from google.protobuf.struct_pb2 import Value

from grpc_server.errors import InvalidInstance, Violation

MAX_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the input: its name and whether a value may be missing (NaN)."""

    name: str
    nullable: bool

    @property
    def allowed(self) -> str:
        """What a caller may send, in words."""
        return "a finite number or null" if self.nullable else "a finite number"

    @property
    def column_field(self) -> str:
        """The field of a Column in which the values of a batch come."""
        return "doubles"

    def takes(self, value: float) -> bool:
        """Tell whether a number may stand in a row."""
        return isfinite(value) or isnan(value) and self.nullable

    def encode_column(
        self, values: Sequence[float | str | bool]
    ) -> Sequence[float | None]:
        """Return the numbers of a row for each value, None for what is not allowed."""
        assert not values or isinstance(values[0], float)
        numbers = cast(list[float], list(values))
        # As row_from_features does.
        if isfinite(sum(numbers)):
            return numbers
        return [value if self.takes(value) else None for value in numbers]

    def show(self, value: float | str | bool) -> str:
        """Return a value of a batch as an error repeats it."""
        return str(value)


@dataclass(frozen=True, slots=True)
class InputSchema:
    """The ordered features of a model."""

    features: tuple[Feature, ...]

    @property
    def names(self) -> str:
        """Names of the features as an error lists them."""
        return shorten(", ".join(feature.name for feature in self.features))

    def row_from_features(self, values: Sequence[float]) -> Sequence[float]:
        """Check features sent by position.

        Parameters
        ----------
        values : sequence of float
            Values in the order of the schema, NaN where missing.

        Returns
        -------
        sequence of float
            The same values: n_features, finite, or NaN where the feature is nullable.

        Raises
        ------
        InvalidInstance
            If the count is wrong, or a value is infinite or missing where it may not be.
        """
        if len(values) != len(self.features):
            raise InvalidInstance([self._wrong_count(len(values))])
        # One addition per value instead of one test: a sum is finite only if all values are. A sum
        # that overflows is looked at again, value by value.
        if not isfinite(sum(values)):
            violations = list(self._unfit_positions(values))
            if violations:
                raise InvalidInstance(violations)
        return values

    def row_from_record(self, members: Mapping[str, Value]) -> Sequence[float]:
        """Check features sent by name.

        Parameters
        ----------
        members : mapping of str to google.protobuf.Value
            The members of the record.

        Returns
        -------
        sequence of float
            Values in the order of the schema: finite, or NaN where the feature is nullable.

        Raises
        ------
        InvalidInstance
            If a name is unknown or absent, or a value is no finite number and no allowed null.
        """
        row: list[float] = []
        violations: list[Violation] = []
        for feature in self.features:
            value = _number(members[feature.name]) if feature.name in members else None
            if value is not None and feature.takes(value):
                row.append(value)
            else:
                violations.append(_unfit_member(feature, members))
        violations.extend(self._unknown_members(members))
        if violations:
            raise InvalidInstance(violations)
        return row

    def _wrong_count(self, count: int) -> Violation:
        n_features = len(self.features)
        return Violation(
            "features", f"{count} values came, {n_features} are needed: {self.names}"
        )

    def _unfit_positions(self, values: Sequence[float]) -> Iterator[Violation]:
        for position, (feature, value) in enumerate(
            zip(self.features, values, strict=True)
        ):
            if not feature.takes(value):
                yield Violation(
                    f"features[{position}]",
                    f'{value} is not allowed for "{shorten(feature.name)}", which takes '
                    f"{feature.allowed}",
                )

    def _unknown_members(self, members: Mapping[str, Value]) -> Iterator[Violation]:
        known = {feature.name for feature in self.features}
        for name in sorted(set(members) - known):
            yield Violation(
                _path(name), f"is not a feature of the model, which has: {self.names}"
            )


def _number(value: Value) -> float | None:
    """Return a number, NaN for null, or None for anything else."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return value.number_value
    return nan if kind == "null_value" else None


def _unfit_member(feature: Feature, members: Mapping[str, Value]) -> Violation:
    if feature.name not in members:
        return Violation(_path(feature.name), f"is missing; it takes {feature.allowed}")
    shown = _show(members[feature.name])
    return Violation(
        _path(feature.name), f"{shown} is not allowed; it takes {feature.allowed}"
    )


def _show(value: Value) -> str:
    kind = value.WhichOneof("kind")
    if kind in (None, "null_value"):
        return "null"
    if kind == "string_value":
        return f'the text "{shorten(value.string_value)}"'
    if kind == "bool_value":
        return f"the boolean {str(value.bool_value).lower()}"
    if kind == "number_value":
        return str(value.number_value)
    return "an object" if kind == "struct_value" else "a list"


def _path(name: str) -> str:
    return f'record["{shorten(name)}"]'


def shorten(text: str) -> str:
    """Bound what an error repeats, since its size is bounded on the wire."""
    if len(text) <= MAX_SHOWN_CHARACTERS:
        return text
    return text[: MAX_SHOWN_CHARACTERS - 1] + "…"
