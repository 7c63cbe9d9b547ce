"""The input schema: encodes the values of an instance as a row, or reports the invalid ones."""

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
    MAX_INTEGER,
    Boolean,
    Date,
    IntegerCategories,
    Kind,
    Numeric,
    Scalar,
    TargetMean,
    TextCategories,
    TimeOfDay,
    list_names,
    quote,
    read_kind,
    show,
)
from prediction.artifact.v1 import model_artifact_pb2

# Unknown names that an error lists, at most.
_MAX_UNKNOWN = MAX_VIOLATIONS

DROP, HASH = "drop", "hash"
_REDACTIONS = {
    model_artifact_pb2.REDACTION_UNSPECIFIED: "",
    model_artifact_pb2.REDACTION_DROP: DROP,
    model_artifact_pb2.REDACTION_HASH: HASH,
}


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of the model.

    Parameters
    ----------
    name : str
        Name of the feature.
    nullable : bool
        Whether a value may be missing.
    kind : Kind
        Kind of its values.
    redaction : str
        What a prediction log may hold of its values: `DROP` for nothing, `HASH`, or empty for all.
    """

    name: str
    nullable: bool
    kind: Kind = Numeric()
    redaction: str = ""

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        return f"{self.kind.allowed} or null" if self.nullable else self.kind.allowed

    def allowed_for(self, value: object) -> str:
        """The allowed values, in words that tell why `value` is none of them."""
        if isinstance(value, int) and isinstance(self.kind, Numeric):
            if abs(value) > MAX_INTEGER:
                most = f"{-MAX_INTEGER} to {MAX_INTEGER}"
                return f"integers of {most}, which a double holds"
        return self.allowed

    @property
    def allowed_number(self) -> str:
        """The allowed values, in words, where numbers stand for them and NaN for a missing one."""
        allowed = "0 or 1" if isinstance(self.kind, Boolean) else self.kind.allowed
        return f"{allowed} or NaN" if self.nullable else allowed

    @property
    def has_texts(self) -> bool:
        """Whether its values are texts, which no number stands for."""
        return self.kind.column_field == "strings"

    @property
    def n_categories(self) -> int:
        """Number of categories that the estimator takes; 0 if it takes numbers of the feature."""
        if isinstance(self.kind, TextCategories | IntegerCategories) and not self.means:
            return len(self.kind.codes)
        return 0

    @property
    def means(self) -> tuple[TargetMean, ...]:
        """Numbers that the estimator gets of a category; empty for other features."""
        if isinstance(self.kind, TextCategories | IntegerCategories):
            return self.kind.means
        return ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the numbers that the estimator gets of a date or time; empty for other kinds."""
        return self.kind.parts if isinstance(self.kind, Date | TimeOfDay) else ()

    def encode(self, value: Scalar) -> float | None:
        """Return the number that encodes a value, None if the value is not allowed."""
        # Only NaN differs from itself; it stands for a missing value.
        if value != value:
            return nan if self.nullable else None
        return self.kind.encode(value)

    def encode_member(self, value: Value) -> float | None:
        """Return the number that encodes a member of a record, None if it is not allowed."""
        came = value.WhichOneof("kind")
        if came == "null_value":
            return nan if self.nullable else None
        return self.encode(getattr(value, came)) if came == self.kind.member else None

    def encode_column(self, values: Sequence[Scalar]) -> tuple[Vector, Mask]:
        """Encode the values of a column.

        Parameters
        ----------
        values : sequence of float, str or bool, shape (n_rows,)
            Values, NaN where missing.

        Returns
        -------
        numbers : ndarray of float64, shape (n_rows,)
            The encoded values.
        wrong : ndarray of bool, shape (n_rows,)
            True where a value is not allowed.
        """
        import numpy as np

        if isinstance(self.kind, Numeric):
            numbers = np.array(values, np.float64)
            return numbers, self.find_wrong(numbers)
        # Each distinct value is encoded once: there are few.
        values = list(values)
        codes = {value: self.encode(value) for value in set(values)}
        encoded = [codes[value] for value in values]
        wrong = np.array([code is None for code in encoded])
        return np.array(encoded, np.float64), wrong  # None becomes NaN

    def encode_numbers(self, numbers: Vector) -> tuple[Vector, Mask]:
        """Encode a column of numbers that stand for the values of a feature without texts.

        Parameters
        ----------
        numbers : ndarray of float64, shape (n_rows,)
            Numbers, 1 and 0 for true and false, whole numbers for categories, NaN where missing.

        Returns
        -------
        tuple of (ndarray of float64, ndarray of bool), each of shape (n_rows,)
            What `encode_column` returns.
        """
        import numpy as np

        if isinstance(self.kind, Numeric):
            return numbers, self.find_wrong(numbers)
        if isinstance(self.kind, Boolean):
            is_gap = np.isnan(numbers) & self.nullable
            return numbers, (numbers != 0) & (numbers != 1) & ~is_gap
        # Each distinct value is encoded once: there are few.
        values, places = np.unique(numbers, return_inverse=True)
        codes = [self.encode(value) for value in values.tolist()]
        wrong = np.array([code is None for code in codes])
        return np.array(codes, np.float64)[places], wrong[places]

    def find_wrong(self, numbers: Vector) -> Mask:
        """Find the values that this numeric feature does not allow.

        Parameters
        ----------
        numbers : ndarray of float64, shape (n_rows,)
            Values, NaN where missing.

        Returns
        -------
        ndarray of bool, shape (n_rows,)
            True where a value is not allowed.
        """
        import numpy as np

        wrong = ~np.isfinite(numbers)
        return wrong & ~np.isnan(numbers) if self.nullable else wrong


class InputSchema:
    """The ordered features of a model.

    Parameters
    ----------
    features : tuple of Feature
        One or more; those whose categories the estimator takes come last.
    """

    __slots__ = ("_n_positions", "features", "is_numeric", "names_in_order")

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self.features = features
        self.names_in_order = tuple(feature.name for feature in features)
        self.is_numeric = not self._not_numeric
        # Number of values that an instance by position has. -1, which no instance has, if a
        # feature is not numeric: such a feature needs a record.
        self._n_positions = len(features) if self.is_numeric else -1

    @classmethod
    def from_message(cls, message: model_artifact_pb2.InputSchema) -> "InputSchema":
        """Read the schema message of an artifact.

        Parameters
        ----------
        message : model_artifact_pb2.InputSchema
            The message.

        Returns
        -------
        InputSchema
            The schema.

        Raises
        ------
        ArtifactCorrupt
            If there is no feature, a name occurs twice, a kind is unknown, or a feature whose
            categories the estimator takes comes before another.
        """
        features = tuple(
            Feature(
                feature.name,
                feature.nullable,
                read_kind(feature),
                # A rule of a newer trainer is taken for the strictest.
                _REDACTIONS.get(feature.redaction, DROP),
            )
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
    def n_numbers(self) -> int:
        """Number of numbers that the estimator takes: one for a column, or several."""
        return sum(len(f.parts) or len(f.means) or 1 for f in self.features)

    @property
    def names(self) -> str:
        """Names of the features, as an error message lists them."""
        return list_names(feature.name for feature in self.features)

    def row_from_features(self, values: Sequence[float]) -> Sequence[float]:
        """Check an instance sent by position.

        Parameters
        ----------
        values : sequence of float
            Values in the order of the schema, NaN where missing.

        Returns
        -------
        sequence of float
            A copy of the n_features values, each finite, or NaN if the feature is nullable.

        Raises
        ------
        InvalidInstance
            If the number of values is wrong, a value is infinite, a value is missing and its
            feature is not nullable, or a feature is not numeric.
        """
        if len(values) != self._n_positions:
            self.check_positional("features", "record")
            raise InvalidInstance([self._wrong_count(len(values))])
        # A Python list is faster to iterate than protobuf's container.
        row = values[:]
        # An addition is cheaper than a test, and a sum is finite only if all its values are. If the
        # sum overflows, each value is tested.
        if not isfinite(sum(row)):
            violations = list(self._unfit_positions(row))
            if violations:
                raise InvalidInstance(violations)
        return row

    def row_from_record(self, members: Mapping[str, Value]) -> Sequence[float]:
        """Check and encode an instance sent by name.

        Parameters
        ----------
        members : mapping of str to google.protobuf.Value
            The members of the record.

        Returns
        -------
        sequence of float
            n_features numbers in the order of the schema, each finite, or NaN if the value is
            missing or its category is unknown.

        Raises
        ------
        InvalidInstance
            If a name is unknown or absent, a value is of another kind than its feature, or a value
            is null and its feature is not nullable.
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
            n_unlisted = max(0, n_unknown - _MAX_UNKNOWN)
            raise InvalidInstance(violations, n_unlisted)
        return row

    def check_positional(self, field: str, instead: str) -> None:
        """Refuse values by position if a feature is not numeric.

        Parameters
        ----------
        field : str
            The field that was sent.
        instead : str
            The field to send instead.

        Raises
        ------
        InvalidInstance
            If a feature is not numeric.
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
        # The rest is only counted: a caller may send any number of names.
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
