"""Checks that an artifact's formulas answer as the fitted model does."""

import numpy as np
from numpy.typing import NDArray

from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.formula import (
    apply_calibration,
    evaluate_formula,
    evaluate_raw_scores,
)
from training.artifact.golden import ScoredRows
from training.errors import ArtifactError

# Largest difference between a probability of the formula and scikit-learn's.
TOLERANCE = 1e-12
LIGHTGBM_REMEDY = "remove unusual parameters from search.lightgbm"
# Large terms of the sum cancel each other, and leave their rounding errors.
LINEAR_REMEDY = "columns of extreme size are the usual cause, so rescale them"


def check_agreement(artifact: pb.ModelArtifact, golden: ScoredRows) -> None:
    """Check the formulas of an artifact on rows with known probabilities.

    Uncalibrated trees, and means of them, have to agree to the last bit; all other models within
    `TOLERANCE`.

    Parameters
    ----------
    artifact : ModelArtifact
        Artifact to check.
    golden : ScoredRows
        Rows with the fitted model's probabilities.

    Raises
    ------
    ArtifactError
        If a probability differs.
    """
    probabilities = evaluate_formula(artifact, golden.X)
    is_linear = _has_linear_model(artifact)
    if not (is_linear or artifact.HasField("calibration")):
        if not np.array_equal(probabilities, golden.probabilities):
            raise ArtifactError(
                "the artifact's trees do not give the probabilities of the fitted model; "
                f"{LIGHTGBM_REMEDY}"
            )
        return
    differences = np.abs(probabilities - golden.probabilities).max(axis=1)
    if not (differences <= TOLERANCE + _find_leeway(artifact, golden.X)).all():
        raise ArtifactError(
            f"the artifact's probabilities differ by {differences.max():.1e} from scikit-learn's, "
            f"more than {TOLERANCE:.0e}; {LINEAR_REMEDY if is_linear else LIGHTGBM_REMEDY}"
        )


def _has_linear_model(artifact: pb.ModelArtifact) -> bool:
    """Tell whether the estimator, or a member of an ensemble, is a logistic regression."""
    return artifact.HasField("logistic_regression") or any(
        member.HasField("logistic_regression") for member in artifact.ensemble.members
    )


def _find_leeway(
    artifact: pb.ModelArtifact, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far each row's probabilities move if its raw scores move by the tolerance.

    Isotonic regression turns two close raw scores into a cliff, where rounding shows. Raw scores of
    LightGBM are not rounded, and logistic regression without calibration has no cliffs.
    """
    raw_scores = evaluate_raw_scores(artifact, X)
    if not _has_linear_model(artifact) or not artifact.HasField("calibration"):
        return np.zeros(len(X))
    shifts = TOLERANCE * np.eye(raw_scores.shape[1])
    above = [apply_calibration(artifact.calibration, raw_scores + s) for s in shifts]
    below = [apply_calibration(artifact.calibration, raw_scores - s) for s in shifts]
    return np.asarray(np.abs(np.subtract(above, below)).sum(axis=0).max(axis=1))
