"""Two versions side by side: whether their metrics are about the same rows."""

import re

import pytest
from mlflow.entities.model_registry import ModelVersion

from training.registry.registration import FINAL_FIT_TAG
from training.registry.side_by_side import DATA_TAG, Side, tell_rows

SAME = "measured on the same rows"


def make_side(number: int, **params: str) -> Side:
    """Make a version whose run had these parameters beside the usual ones."""
    version = ModelVersion("wine", str(number), 0)
    version.tags.update({FINAL_FIT_TAG: "all", DATA_TAG: "ab" * 32})
    usual = {"target": "target", "test_fraction": "0.2", "folds": "5", "seed": "0"}
    return Side(version, usual | params)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, f"{SAME}.*--seed '0'\\.$"),
        ({"folds": "3"}, f"{SAME}.*folds differ, --folds '5' and '3': .* cv_best_"),
        ({"seed": "1"}, "on different rows: --seed '0' and '1'.*is no evidence"),
        ({"test_fraction": "0.3"}, "on different rows: --test_fraction '0.2' and"),
    ],
)
def test_the_hold_out_depends_on_the_seed_and_not_on_the_folds(
    other: dict[str, str], said: str
) -> None:
    assert re.search(said, tell_rows(make_side(1), make_side(2, **other)))
