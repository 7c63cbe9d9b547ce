"""The distributions that a model was made with, and the bins that they are counted in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from types import MappingProxyType

from date_columns.forms import DATE, TIME
from date_columns.parts import PARTS, Part
from grpc_server.errors import ArtifactCorrupt
from grpc_server.model.kinds import (
    PART_NUMBERS,
    Boolean,
    Date,
    IntegerCategories,
    TextCategories,
    TimeOfDay,
    quote,
)
from grpc_server.model.schema import Feature, InputSchema
from prediction.artifact.v1 import model_artifact_pb2

MAX_EDGES = 12
MAX_CATEGORY_BINS = 20
MAX_SCORE_EDGES = 19
MAX_FINE_EDGES = 49
MAX_WATCHED = 500
MAX_REFERENCE_BYTES = 100 * 1024
# Largest difference between 1 and a sum of shares, which are rounded.
_MAX_EXCESS = 1e-6


@dataclass(frozen=True, slots=True)
class FeatureBins:
    """The bins of one number or category of a row.

    Parameters
    ----------
    position : int
        Position of the feature in a row.
    feature : Feature
        The feature.
    part_name : str
        Name of the number that is taken of a date or time; else empty.
    part : callable or None
        Computes this number; None takes the value of the row.
    edges : tuple of float
        Upper edges of all bins but the last, ascending; empty for categories.
    bin_of_category : mapping of float to int, or None
        Bin of each category that has one of its own; None for numbers.
    shares : tuple of float
        Share of the rows in each bin, then that of missing values; they sum to 1.
    """

    position: int
    feature: Feature
    part_name: str
    part: Part | None
    edges: tuple[float, ...]
    bin_of_category: Mapping[float, int] | None
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """The distributions that a model was made with.

    Parameters
    ----------
    n_rows : float
        Number of rows, above 0.
    features : tuple of FeatureBins
        The most important first.
    score_edges, score_shares : tuple of float
        Bins of the scores, and the share of the rows in each.
    fine_edges : tuple of float
        Edges of the bins from which the ROC AUC is estimated; empty with more than two classes.
    calibration_error : float or None
        Expected calibration error, [0, 1]; None if it is unknown.
    """

    n_rows: float
    features: tuple[FeatureBins, ...]
    score_edges: tuple[float, ...]
    score_shares: tuple[float, ...]
    fine_edges: tuple[float, ...]
    calibration_error: float | None


def read_reference(
    artifact: model_artifact_pb2.ModelArtifact, schema: InputSchema, n_classes: int
) -> Reference | None:
    """Read the reference of an artifact.

    Parameters
    ----------
    artifact : ModelArtifact
        The artifact; the size of its reference is checked.
    schema : InputSchema
        Its features.
    n_classes : int
        Its number of classes, 2 or more.

    Returns
    -------
    Reference or None
        None if an older trainer wrote the artifact.

    Raises
    ------
    ArtifactCorrupt
        If a feature is unknown or listed twice, edges do not ascend, or shares are no shares.
    """
    if not artifact.HasField("reference"):
        return None
    message = artifact.reference
    error = None
    if message.HasField("expected_calibration_error"):
        error = message.expected_calibration_error
    # Written so that NaN fails.
    if not (isfinite(message.n_rows) and message.n_rows > 0):
        raise ArtifactCorrupt(f"reference.n_rows is {message.n_rows}; it must be > 0")
    if error is not None and not 0 <= error <= 1:
        raise ArtifactCorrupt(
            f"reference.expected_calibration_error is {error}; [0, 1] is allowed"
        )
    scores = message.scores
    _check_scores(scores, n_classes)
    return Reference(
        n_rows=message.n_rows,
        features=tuple(_read_features(message.features, schema)),
        score_edges=tuple(scores.edges),
        score_shares=tuple(scores.shares),
        fine_edges=tuple(scores.fine_edges),
        calibration_error=error,
    )


def _check_scores(scores: model_artifact_pb2.ReferenceScores, n_classes: int) -> None:
    where = "reference.scores"
    _check_edges(scores.edges, MAX_SCORE_EDGES, where)
    _check_shares(scores.shares, len(scores.edges) + 1, where)
    _check_edges(scores.fine_edges, MAX_FINE_EDGES, f"{where}.fine_edges")
    if scores.fine_edges and n_classes > 2:
        raise ArtifactCorrupt(
            f"{where}.fine_edges is set; a model of {n_classes} classes has none"
        )
    if not all(0 <= edge <= 1 for edge in (*scores.edges, *scores.fine_edges)):
        raise ArtifactCorrupt(f"{where} has an edge outside of [0, 1]")


def _read_features(
    messages: Sequence[model_artifact_pb2.ReferenceFeature], schema: InputSchema
) -> Iterator[FeatureBins]:
    if len(messages) > MAX_WATCHED:
        raise ArtifactCorrupt(
            f"reference.features: {len(messages)}; the limit is {MAX_WATCHED}"
        )
    positions = {feature.name: n for n, feature in enumerate(schema.features)}
    seen = set()
    for message in messages:
        name = quote(message.name)
        if message.name not in positions:
            raise ArtifactCorrupt(f"reference.features has {name}, which is no feature")
        position = positions[message.name]
        if (position, message.part) in seen:
            raise ArtifactCorrupt(f"reference.features has {name} twice")
        seen.add((position, message.part))
        where = f"reference of feature {name}"
        yield _read_feature(message, position, schema.features[position], where)


def _read_feature(
    message: model_artifact_pb2.ReferenceFeature,
    position: int,
    feature: Feature,
    where: str,
) -> FeatureBins:
    part_name, part = _read_part(message, feature, where)
    bin_of_category = None
    if isinstance(feature.kind, TextCategories | IntegerCategories):
        bin_of_category = _read_categories(message, len(feature.kind.codes), where)
        n_bins = len(bin_of_category) + 1
    else:
        _check_edges(message.edges, MAX_EDGES, where)
        n_bins = len(message.edges) + 1
    if len(message.edges) and bin_of_category is not None:
        raise ArtifactCorrupt(f"{where} has edges, but its values are categories")
    if len(message.categories) and bin_of_category is None:
        raise ArtifactCorrupt(f"{where} has categories, but its values are numbers")
    if isinstance(feature.kind, Boolean) and list(message.edges) != [0.0]:
        raise ArtifactCorrupt(f"{where} has other edges than 0, but it is a boolean")
    _check_shares(message.shares, n_bins + 1, where)
    return FeatureBins(
        position,
        feature,
        part_name,
        part,
        tuple(message.edges),
        bin_of_category,
        tuple(message.shares),
    )


def _read_part(
    message: model_artifact_pb2.ReferenceFeature, feature: Feature, where: str
) -> tuple[str, Part | None]:
    if not feature.parts and not message.part:
        return "", None
    names = {PART_NUMBERS[name]: name for name in feature.parts}
    if message.part not in names:
        raise ArtifactCorrupt(
            f"{where} has part {message.part}, which its estimator does not take"
        )
    name = names[message.part]
    is_time = isinstance(feature.kind, TimeOfDay)
    assert is_time or isinstance(feature.kind, Date)
    return name, PARTS[TIME if is_time else DATE][name]


def _read_categories(
    message: model_artifact_pb2.ReferenceFeature, n_known: int, where: str
) -> Mapping[float, int]:
    codes = list(message.categories)
    if len(codes) > MAX_CATEGORY_BINS:
        raise ArtifactCorrupt(
            f"{where} has {len(codes)} categories; the limit is {MAX_CATEGORY_BINS}"
        )
    if len(set(codes)) != len(codes) or not all(code < n_known for code in codes):
        raise ArtifactCorrupt(
            f"{where} has a category twice, or a position of {n_known} or above"
        )
    return MappingProxyType({float(code): number for number, code in enumerate(codes)})


def _check_edges(edges: Sequence[float], limit: int, where: str) -> None:
    if len(edges) > limit:
        raise ArtifactCorrupt(f"{where} has {len(edges)} edges; the limit is {limit}")
    # Comparisons with NaN are false.
    ascend = all(low < high for low, high in pairwise(edges))
    if not ascend or not all(map(isfinite, edges)):
        raise ArtifactCorrupt(
            f"{where} has edges that do not ascend, or are not finite"
        )


def _check_shares(shares: Sequence[float], count: int, where: str) -> None:
    if len(shares) != count:
        raise ArtifactCorrupt(f"{where} has {len(shares)} shares; it needs {count}")
    is_share = all(0 <= share <= 1 for share in shares)
    if not is_share or not abs(sum(shares) - 1) <= _MAX_EXCESS:
        raise ArtifactCorrupt(
            f"{where} has shares outside of [0, 1], or that do not sum to 1"
        )
