"""The rows of the dashboard of drift: rows, scores and the performance that they promise."""

from monitoring.drift import (
    ACCURACY,
    F1,
    NEEDS,
    PRECISION,
    RECALL,
    ROC_AUC,
    index_of,
    share_of,
)
from monitoring.selectors import IN, by, rate
from monitoring.values import Panel, Row, draw

_LINES = "{{feature}}, {{model_version}}"


def list_rows() -> tuple[Row, ...]:
    """Return the rows, from top to bottom."""
    return (_show_drift(), _show_performance())


def _share(name: str) -> str:
    return f'topk(10, {share_of("feature")}{{bin="{name}",{IN}}})'


def _show_drift() -> Row:
    return Row(
        "Rows and scores",
        (
            draw(
                "Drift of features",
                "Population stability index over 6 hours, of the ten that drifted most. Up to "
                "0.1 is little, from 0.25 it is much. 1,000 rows are needed.",
                "short",
                f"topk(10, {index_of('feature')}{{{IN}}})",
                _LINES,
                NEEDS,
            ),
            draw(
                "Drift of other features",
                "The same of features whose bins are not shown, of each server, over its last "
                "rows.",
                "short",
                f"topk(10, prediction_feature_psi{{{IN}}})",
                _LINES,
                f"{NEEDS}, and more features than it says",
            ),
            draw(
                "Drift of scores",
                "Population stability index of the scores over 6 hours, against the hold-out.",
                "short",
                f"{index_of('score')}{{{IN}}}",
                "version {{model_version}}",
                NEEDS,
            ),
            *_show_gaps(),
            draw(
                "Rows looked at",
                "Rows per second that are counted for drift: all, or a sample of a busy server.",
                "cps",
                by("model_version", rate("prediction_drift_rows_total")),
                "version {{model_version}}",
                NEEDS,
            ),
        ),
    )


def _show_gaps() -> tuple[Panel, ...]:
    return (
        draw(
            "Missing values",
            "Share of rows without a value over 6 hours, of the ten features with most. A "
            "category that the model does not know counts as missing.",
            "percentunit",
            _share("missing"),
            _LINES,
            NEEDS,
        ),
        draw(
            "Rare categories",
            "Share of rows over 6 hours with a category that is not among the 20 most frequent "
            "of training, of the ten features with most.",
            "percentunit",
            _share("other"),
            _LINES,
            f"{NEEDS}, and a categorical feature",
        ),
    )


def _show_performance() -> Row:
    error = f"max by (model_version) (prediction_expected_calibration_error{{{IN}}})"
    return Row(
        "Expected performance",
        (
            draw(
                "Expected accuracy",
                "Accuracy over 6 hours that the probabilities promise, without labels. It sees "
                "no change of what the labels mean. It is hidden for a model whose calibration "
                "error is above 0.05.",
                "percentunit",
                f"{ACCURACY}{{{IN}}}",
                "version {{model_version}}",
                NEEDS,
            ),
            *_show_classes(),
            draw(
                "Expected ROC AUC",
                "ROC AUC over 6 hours that the probabilities promise, without labels: 1 ranks all "
                "rows right, 0.5 guesses. It is hidden where the expected accuracy is, and for "
                "more than two classes.",
                "short",
                f"{ROC_AUC}{{{IN}}}",
                "version {{model_version}}",
                f"{NEEDS}, and two classes",
            ),
            draw(
                "Calibration error",
                "Expected calibration error on the hold-out. Above 0.05 the expected accuracy and "
                "ROC AUC are no estimates.",
                "percentunit",
                error,
                "version {{model_version}}",
                NEEDS,
            ),
            draw(
                "Distribution of scores",
                "Share of the rows in each bin of the score over 6 hours.",
                "percentunit",
                f"{share_of('score')}{{{IN}}}",
                "up to {{bin}}",
                NEEDS,
            ),
        ),
    )


def _show_classes() -> tuple[Panel, ...]:
    return tuple(
        draw(
            f"Expected {name}",
            f"{name[0].upper()}{name[1:]} of each class over 6 hours that the probabilities "
            "promise, without labels. It is hidden where the expected accuracy is, and for more "
            "than 20 classes.",
            "percentunit",
            f"{series}{{{IN}}}",
            "{{class}}, version {{model_version}}",
            NEEDS,
        )
        for name, series in (("precision", PRECISION), ("recall", RECALL), ("F1", F1))
    )
