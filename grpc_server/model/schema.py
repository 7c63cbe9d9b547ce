"""The input schema: turns what a caller sent into one row, or says what does not fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite, isnan, nan

from google.protobuf.struct_pb2 import Value

from grpc_server.errors import (
    MAX_VIOLATIONS,
    ArtifactCorrupt,
    InvalidInstance,
    Violation,
)
from grpc_server.model.arrays import Mask, Vector
from grpc_server.model.kinds import (
    IntegerCategories,
    Kind,
    Numeric,
    Scalar,
    TextCategories,
    list_names,
    quote,
    read_kind,
    show,
)
from prediction.artifact.v1 import model_artifact_pb2

# Names that are not the model's, of which as many are told.
_MAX_UNKNOWN = MAX_VIOLATIONS


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the input: its name, whether a value may be missing (NaN), and its kind."""

    name: str
    nullable: bool
    kind: Kind = Numeric()

    @property
    def allowed(self) -> str:
        """What a caller may send, in words."""
        return f"{self.kind.allowed} or null" if self.nullable else self.kind.allowed

    @property
    def n_categories(self) -> int:
        """Number of categories, 0 for a feature that is not categorical."""
        if isinstance(self.kind, TextCategories | IntegerCategories):
            return len(self.kind.codes)
        return 0

    def encode(self, value: Scalar) -> float | None:
        """Return the number of a row for a value, None for what is not allowed."""
        # Only NaN, which stands for a missing value, differs from itself.
        if value != value:
            return nan if self.nullable else None
        return self.kind.encode(value)

    def encode_member(self, value: Value) -> float | None:
        """Return the number of a row for a member of a record, None for what is not allowed."""
        came = value.WhichOneof("kind")
        if came == "null_value":
            return nan if self.nullable else None
        return self.encode(getattr(value, came)) if came == self.kind.member else None

    def encode_column(self, values: Sequence[Scalar]) -> tuple[Vector, Mask]:
        """Return the number of a row for each value, and which of them are not allowed."""
        import numpy as np

        if isinstance(self.kind, Numeric):
            numbers = np.array(values, np.float64)
            return numbers, self.find_wrong(numbers)
        # Once for each category: they are few.
        values = list(values)
        codes = {value: self.encode(value) for value in set(values)}
        encoded = [codes[value] for value in values]
        wrong = np.array([code is None for code in encoded])
        return np.array(encoded, np.float64), wrong  # None becomes NaN

    def find_wrong(self, numbers: Vector) -> Mask:
        """Return which values are not allowed, of a feature that is numeric."""
        import numpy as np

        wrong = ~np.isfinite(numbers)
        return wrong & ~np.isnan(numbers) if self.nullable else wrong


class InputSchema:
    """The ordered features of a model.

    Parameters
    ----------
    features : tuple of Feature
        One or more; those that are categorical come last.
    """

    __slots__ = ("_n_positions", "features")

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self.features = features
        # How many values by position fit: no number does where a name is needed for the kind.
        self._n_positions = -1 if self._not_numeric else len(features)

    @classmethod
    def from_message(cls, message: model_artifact_pb2.InputSchema) -> "InputSchema":
        """Read the artifact's message.

        Raises
        ------
        ArtifactCorrupt
            If there is no feature, a name is there twice, a kind is not known, or a feature that is
            not categorical comes after one that is.
        """
        features = tuple(
            Feature(feature.name, feature.nullable, read_kind(feature))
            for feature in message.features
        )
        if not features or len({feature.name for feature in features}) != len(features):
            raise ArtifactCorrupt("input_schema.features is empty or has a name twice")
        are_categorical = [feature.n_categories > 0 for feature in features]
        if are_categorical != sorted(are_categorical):
            raise ArtifactCorrupt(
                "input_schema.features has a categorical feature before one that is not"
            )
        return cls(features)

    @property
    def n_categories(self) -> tuple[int, ...]:
        """Number of categories of each categorical feature."""
        return tuple(f.n_categories for f in self.features if f.n_categories)

    @property
    def names(self) -> str:
        """Names of the features as an error lists them."""
        return list_names(feature.name for feature in self.features)

    def row_from_features(self, values: Sequence[float]) -> Sequence[float]:
        """Check features sent by position.

        Parameters
        ----------
        values : sequence of float
            Values in the order of the schema, NaN where missing.

        Returns
        -------
        sequence of float
            A copy of the values: n_features, finite, or NaN where the feature is nullable.

        Raises
        ------
        InvalidInstance
            If the count is wrong, a value is infinite or missing where it may not be, or a feature
            is not numeric.
        """
        if len(values) != self._n_positions:
            self.check_positional("features", "record")
            raise InvalidInstance([self._wrong_count(len(values))])
        # A list of Python's costs less to go through than protobuf's.
        row = values[:]
        # One addition per value instead of one test: a sum is finite only if all values are. A sum
        # that overflows is looked at again, value by value.
        if not isfinite(sum(row)):
            violations = list(self._unfit_positions(row))
            if violations:
                raise InvalidInstance(violations)
        return row

    def row_from_record(self, members: Mapping[str, Value]) -> Sequence[float]:
        """Check features sent by name.

        Parameters
        ----------
        members : mapping of str to google.protobuf.Value
            The members of the record.

        Returns
        -------
        sequence of float
            The numbers of the row in the order of the schema: finite, or NaN where the value is
            missing or its category is not known.

        Raises
        ------
        InvalidInstance
            If a name is unknown or absent, or a value is not of the feature's kind and no allowed
            null.
        """
        row: list[float] = []
        violations: list[Violation] = []
        for feature in self.features:
            if feature.name not in members:
                violations.append(_absent_member(feature))
                continue
            value = members[feature.name]
            number = feature.encode_member(value)
            if number is None:
                violations.append(_unfit_member(feature, value))
            else:
                row.append(number)
        n_unknown = self._count_unknown(members)
        if n_unknown:
            violations.extend(self._unknown_members(members))
        if violations:
            n_untold = max(0, n_unknown - _MAX_UNKNOWN)
            raise InvalidInstance(violations, n_untold)
        return row

    def check_positional(self, field: str, instead: str) -> None:
        """Refuse values by position where a feature is not numeric.

        Parameters
        ----------
        field, instead : str
            The field that came, and the one to send.

        Raises
        ------
        InvalidInstance
            If there is such a feature.
        """
        if self._not_numeric:
            names = list_names(feature.name for feature in self._not_numeric)
            raise InvalidInstance(
                [
                    Violation(
                        field,
                        f"takes numbers only, and these features are not numeric: {names}; send "
                        f"{instead}",
                    )
                ]
            )

    @property
    def _not_numeric(self) -> tuple[Feature, ...]:
        return tuple(f for f in self.features if not isinstance(f.kind, Numeric))

    def _wrong_count(self, count: int) -> Violation:
        n_features = len(self.features)
        return Violation(
            "features", f"{count} values came, {n_features} are needed: {self.names}"
        )

    def _unfit_positions(self, values: Sequence[float]) -> Iterator[Violation]:
        for position, (feature, value) in enumerate(
            zip(self.features, values, strict=True)
        ):
            if not isfinite(value) and not (isnan(value) and feature.nullable):
                yield Violation(
                    f"features[{position}]",
                    f"{value} is not allowed for {quote(feature.name)}, which takes "
                    f"{feature.allowed}",
                )

    def _unknown_members(self, members: Mapping[str, Value]) -> Iterator[Violation]:
        known = {feature.name for feature in self.features}
        # No more of them are looked at than are told: a caller may send any number.
        unknown = islice((name for name in members if name not in known), _MAX_UNKNOWN)
        for name in sorted(unknown):
            yield Violation(
                _path(name), f"is not a feature of the model, which has: {self.names}"
            )

    def _count_unknown(self, members: Mapping[str, Value]) -> int:
        return len(members) - sum(f.name in members for f in self.features)


def _absent_member(feature: Feature) -> Violation:
    return Violation(_path(feature.name), f"is missing; it takes {feature.allowed}")


def _unfit_member(feature: Feature, value: Value) -> Violation:
    return Violation(
        _path(feature.name),
        f"{_show_member(value)} is not allowed; it takes {feature.allowed}",
    )


def _show_member(value: Value) -> str:
    kind = value.WhichOneof("kind")
    if kind in (None, "null_value"):
        return "null"
    if kind in ("struct_value", "list_value"):
        return "an object" if kind == "struct_value" else "a list"
    return show(getattr(value, kind))


def _path(name: str) -> str:
    return f"record[{quote(name)}]"
