"""Recording rules of drift and of the expected performance, for panels and alerts.

They sum the counts of a fleet, which an index of each pod could not. The window is wide enough
for a service with a few calls a minute.
"""

from math import sqrt

from monitoring.values import Group, Recording

WINDOW = "6h"
# With fewer rows, chance alone lifts the index above what is a sign of drift.
MIN_ROWS = 1_000
# Shares below it count as this much, so that an empty bin gives a finite index.
SMALLEST_SHARE = "0.0001"
NEEDS = "a model whose artifact holds its distributions, and --drift-features above 0"
_MODEL = "namespace, model_version"


def list_groups() -> tuple[Group, ...]:
    """Return the one group, in the order in which its rules need each other."""
    features = _list_stability(
        "feature", f"{_MODEL}, feature", "prediction_feature_bin_total"
    )
    scores = _list_stability("score", _MODEL, "prediction_score_bin_total")
    performance = (*_list_performance(), *_list_ranking())
    return (Group("prediction-drift", (*features, *scores, *performance)),)


def _list_stability(subject: str, keys: str, counter: str) -> tuple[Recording, ...]:
    """Return the rules of the shares of the bins, and of the population stability index."""
    rows, share = f"prediction:{subject}_rows:{WINDOW}", share_of(subject)
    reference = f"max by ({keys}, bin) (prediction_{subject}_reference_ratio)"
    total = f"sum by ({keys}) ({rows})"
    live, known = (
        f"clamp_min({text}, {SMALLEST_SHARE})" for text in (share, reference)
    )
    formulas = {
        rows: f"sum by ({keys}, bin) (increase({counter}[{WINDOW}]))",
        share: f"{rows} / on ({keys}) group_left () ({total} >= {MIN_ROWS})",
        index_of(
            subject
        ): f"sum by ({keys}) (\n({live} - {known})\n* ln({live} / {known})\n)",
    }
    return tuple(
        Recording(name, formula, needs=NEEDS) for name, formula in formulas.items()
    )


def share_of(subject: str) -> str:
    """Return the series with the share of each bin of "feature" or "score"."""
    return f"prediction:{subject}_share:{WINDOW}"


def index_of(subject: str) -> str:
    """Return the series with the population stability index of "feature" or "score"."""
    return f"prediction:{subject}_psi:{WINDOW}"


ACCURACY = f"prediction:expected_accuracy:{WINDOW}"
PRECISION = f"prediction:expected_precision:{WINDOW}"
RECALL = f"prediction:expected_recall:{WINDOW}"
F1 = f"prediction:expected_f1:{WINDOW}"
ROC_AUC = f"prediction:expected_roc_auc:{WINDOW}"
_ROWS = f"sum by ({_MODEL}) (increase(prediction_drift_rows_total[{WINDOW}]))"
# Hides what is no estimate.
_VALID = f"on ({_MODEL}) min by ({_MODEL}) (prediction_expected_valid) == 1"


def _list_performance() -> tuple[Recording, ...]:
    """Return the rules of accuracy, and of precision, recall and F1 of each class."""
    total, same = (f"prediction:expected_{n}:{WINDOW}" for n in ("outcomes", "same"))
    outcomes = (
        f"sum by ({_MODEL}, predicted, actual) "
        f"(increase(prediction_expected_outcomes_total[{WINDOW}]))"
    )
    # PromQL cannot compare two labels of a series: pairs of equal ones are made from one label.
    pairs = _rename(f"sum by ({_MODEL}, predicted) ({total})", "predicted", "actual")
    diagonal = f"{total} and on ({_MODEL}, predicted, actual) {pairs}"
    # With more than 20 classes the server counts the diagonal alone.
    whole = f"count by ({_MODEL}) ({total}) > count by ({_MODEL}) ({same})"
    formulas = {
        total: f"{outcomes}\nand on ({_MODEL}) {_ROWS} >= {MIN_ROWS}\nand {_VALID}",
        same: f"sum by ({_MODEL}, class) ({_rename(diagonal, 'predicted', 'class')})",
        ACCURACY: f"sum by ({_MODEL}) ({same}) / {_ROWS}",
        PRECISION: f"{same} / {_sum_class(total, 'predicted')}\nand on ({_MODEL}) {whole}",
        RECALL: f"{same} / {_sum_class(total, 'actual')}\nand on ({_MODEL}) {whole}",
        F1: f"2 * {PRECISION} * {RECALL} / ({PRECISION} + {RECALL})",
    }
    return tuple(
        Recording(name, formula, needs=NEEDS) for name, formula in formulas.items()
    )


def _rename(formula: str, label: str, other: str) -> str:
    """Copy a label; a name of a class may hold any character."""
    return f'label_replace({formula}, "{other}", "$1", "{label}", "(?s:(.*))")'


def _sum_class(total: str, label: str) -> str:
    return f"sum by ({_MODEL}, class) ({_rename(total, label, 'class')})"


def _list_ranking() -> tuple[Recording, ...]:
    """Return the rules of the ROC AUC: the share of pairs of two classes in the right order.

    A pair of rows with the scores p > q is in the wrong order with the probability (1 - p) * q. In
    one bin, p - q follows from the variance of the scores, as if they were uniform between its
    edges.
    """
    positive, negative, spread, disorder = (
        f"prediction:score_{name}:{WINDOW}"
        for name in ("positive", "negative", "spread", "disorder")
    )
    squares, below = (
        _sum_bins(f"prediction_score_probability_{name}_total")
        for name in ("squares", "below")
    )
    n_rows = f"({positive} + {negative})"
    variance = f"clamp_min({n_rows} * {squares} - {positive} ^ 2, 0)"
    n_pairs = f"(sum by ({_MODEL}) ({positive}) * sum by ({_MODEL}) ({negative}))"
    formulas = {
        positive: _sum_bins("prediction_score_probability_total"),
        negative: f"{_sum_bins('prediction_score_rows_total')} - {positive}",
        spread: f"{n_rows} * sqrt({variance}) / {2 * sqrt(3)}",
        disorder: (
            f"{negative} * {below}\n"
            f"+ clamp_min({negative} * {positive} / 2 - {spread}, 0)"
        ),
        ROC_AUC: (
            f"1 - sum by ({_MODEL}) ({disorder}) / {n_pairs}\n"
            f"and on ({_MODEL}) {_ROWS} >= {MIN_ROWS}\nand {_VALID}"
        ),
    }
    needs = f"{NEEDS}, and two classes"
    return tuple(
        Recording(name, formula, needs=needs) for name, formula in formulas.items()
    )


def _sum_bins(counter: str) -> str:
    return f"sum by ({_MODEL}, bin) (increase({counter}[{WINDOW}]))"
