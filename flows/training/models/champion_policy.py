"""What a new version has to show before it becomes champion by itself."""

from dataclasses import dataclass
from math import isfinite

from training.data.schema import WITH_CATEGORIES, Feature, Kind, Schema
from training.errors import SearchError
from training.models.served_latency import ServedLatency
from training.text import join_choices, quote_list

BETTER, NOT_WORSE, NEVER = "better", "not_worse", "never"
POLICIES = (BETTER, NOT_WORSE, NEVER)
# A difference in the expected calibration error, [0, 1], that a reader of the curve would see.
CALIBRATION_TOLERANCE = 0.02
MIB = 2**20
SEGMENT_KINDS = (Kind.BOOLEAN, *WITH_CATEGORIES)


@dataclass(frozen=True, slots=True)
class ChampionPolicy:
    """What a new version has to show.

    Parameters
    ----------
    promotion : str
        "better": the interval of the score's difference is above 0. "not_worse": it is above minus
        the tolerance. "never": only a user promotes.
    tolerance : float
        A difference that does not matter, in units of the score and of the log loss, 0 or more.
    max_artifact_mib : float
        Largest artifact in MiB; 0 is no limit.
    max_latency_us : float
        Longest median time for one row in microseconds; 0 is no limit.
    segment : str
        Column whose values are compared one by one; empty for none.
    """

    promotion: str = NOT_WORSE
    tolerance: float = 0.01
    max_artifact_mib: float = 0.0
    max_latency_us: float = 0.0
    segment: str = ""

    def __post_init__(self) -> None:
        if self.promotion not in POLICIES:
            raise SearchError(
                f"--promotion is {self.promotion!r}; it has to be {join_choices(POLICIES)}"
            )
        for flag, value, least in (
            ("--promotion_tolerance", self.tolerance, "0 or more"),
            ("--max_artifact_mib", self.max_artifact_mib, "0 (no limit) or more"),
            ("--max_latency_us", self.max_latency_us, "0 (no limit) or more"),
        ):
            if not (isfinite(value) and value >= 0):
                raise SearchError(f"{flag} is {value}; it has to be {least}")

    def find_excess(self, artifact_bytes: int, latency: ServedLatency | None) -> str:
        """Say which limit a model exceeds; empty for none.

        Parameters
        ----------
        artifact_bytes : int
            Size of its artifact.
        latency : ServedLatency or None
            Its time for one row; None if it was not measured.

        Returns
        -------
        str
            The figure and the limit.

        Raises
        ------
        SearchError
            If the latency has a limit, and was not measured.
        """
        size = artifact_bytes / MIB
        if 0 < self.max_artifact_mib < size:
            return (
                f"its artifact has {size:.3g} MiB, more than --max_artifact_mib "
                f"{self.max_artifact_mib:g}"
            )
        if not self.max_latency_us:
            return ""
        if latency is None:
            raise SearchError(
                f"--max_latency_us is {self.max_latency_us:g}, and the time for one row was not "
                "measured; measure it, or give 0 (no limit)"
            )
        if latency.median_us > self.max_latency_us:
            return (
                f"one row takes {latency}, more in the median than --max_latency_us "
                f"{self.max_latency_us:g}"
            )
        return ""


def find_segment(segment: str, schema: Schema) -> tuple[int, Feature]:
    """Return the position and the column of --segment.

    Parameters
    ----------
    segment : str
        Name of the column.
    schema : Schema
        Columns and classes.

    Returns
    -------
    position, feature : int, Feature
        Its place in the matrix, and the column itself.

    Raises
    ------
    SearchError
        If the model has no such column, or it is neither categorical nor boolean.
    """
    choices = [f.name for f in schema.features if f.kind in SEGMENT_KINDS]
    there_are = f"it may be {quote_list(choices)}" if choices else "the table has none"
    for position, feature in enumerate(schema.features):
        if feature.name == segment and feature.kind in SEGMENT_KINDS:
            return position, feature
    raise SearchError(
        f"--segment {segment!r} is not a categorical or boolean column that the model learns from; "
        f"{there_are}"
    )
