"""Limits on the size of an artifact and its parts: beyond them a server would be slow.

The limits of trees are in `tree_checks`. The members of an ensemble share the limits of one
estimator.
"""

from collections.abc import Iterator

from grpc_server.errors import ArtifactCorrupt
from grpc_server.model.reference import MAX_REFERENCE_BYTES
from grpc_server.model.tree_checks import MAX_TREES
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
# Numbers that an estimator gets of a row's categories: as many as columns may give.
MAX_TARGET_MEANS = MAX_FEATURES
# Members of an ensemble. Each answers every row, at 3 to 30 microseconds.
MAX_MEMBERS = 50
MAX_COUNT = 1_000_000


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
    yield "bytes of reference", artifact.reference.ByteSize(), MAX_REFERENCE_BYTES
    yield "input_schema.features", len(schema.features), MAX_FEATURES
    n_means = sum(len(f.categorical.means.missing) for f in schema.features)
    yield "target means of a row", n_means, MAX_TARGET_MEANS
    n_labels = len(labels.integers.values) + len(labels.strings.values)
    yield "class_labels", n_labels, MAX_CLASSES
    yield "golden_examples", len(artifact.golden_examples), MAX_GOLDEN_EXAMPLES
    members = artifact.ensemble.members
    yield "ensemble.members", len(members), MAX_MEMBERS
    linear = [artifact.logistic_regression, *(m.logistic_regression for m in members)]
    n_coefficients = sum(len(model.coefficients) for model in linear)
    yield "logistic_regression.coefficients", n_coefficients, MAX_COEFFICIENTS
    n_trees = sum(len(member.boosted_trees.trees) for member in members)
    yield "trees of all ensemble.members", n_trees, MAX_TREES
    names = [feature.name for feature in schema.features]
    names += [artifact.provenance.family, artifact.provenance.display_name]
    longest = max(map(len, [*names, *labels.strings.values]))
    yield "characters of the longest name", longest, MAX_NAME_CHARACTERS
