"""Limits on the size of an artifact and its parts: beyond them a server would be slow.

The limits of trees are in `tree_checks`.
"""

from collections.abc import Iterator

from grpc_server.errors import ArtifactCorrupt
from prediction.artifact.v1 import model_artifact_pb2

MAX_ARTIFACT_BYTES = 128 * 1024 * 1024
MAX_FEATURES = 100_000
MAX_CLASSES = 10_000
MAX_GOLDEN_EXAMPLES = 10_000
MAX_NAME_CHARACTERS = 10_000
# The reply to GetModel holds the schema and the metrics.
MAX_SCHEMA_BYTES = 16 * 1024 * 1024
MAX_PROVENANCE_BYTES = 256 * 1024
# Each costs about 50 ns per row, on the thread that answers all calls.
MAX_COEFFICIENTS = 1_000_000


def check_sizes(artifact: model_artifact_pb2.ModelArtifact) -> None:
    """Check the sizes of an artifact before it is converted.

    Raises
    ------
    ArtifactCorrupt
        If a size is beyond its limit.
    """
    for what, size, limit in _measure(artifact):
        if size > limit:
            raise ArtifactCorrupt(f"{what}: {size}; the limit is {limit}")


def _measure(
    artifact: model_artifact_pb2.ModelArtifact,
) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the value and the limit of each size.

    The sizes of messages come first, so that later ones are cheap to measure.
    """
    schema, labels = artifact.input_schema, artifact.class_labels
    yield "bytes of input_schema", schema.ByteSize(), MAX_SCHEMA_BYTES
    yield "bytes of class_labels", labels.ByteSize(), MAX_SCHEMA_BYTES
    yield "bytes of provenance", artifact.provenance.ByteSize(), MAX_PROVENANCE_BYTES
    yield "input_schema.features", len(schema.features), MAX_FEATURES
    n_labels = len(labels.integers.values) + len(labels.strings.values)
    yield "class_labels", n_labels, MAX_CLASSES
    yield "golden_examples", len(artifact.golden_examples), MAX_GOLDEN_EXAMPLES
    n_coefficients = len(artifact.logistic_regression.coefficients)
    yield "logistic_regression.coefficients", n_coefficients, MAX_COEFFICIENTS
    names = [feature.name for feature in schema.features]
    names += [artifact.provenance.family, artifact.provenance.display_name]
    longest = max(map(len, [*names, *labels.strings.values]))
    yield "characters of the longest name", longest, MAX_NAME_CHARACTERS
