"""Small data sets and settings for the tests of training."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.datasets import make_classification
from sklearn.pipeline import Pipeline

from training.data.rows import FileRef, Rows, RowsRef, open_rows
from training.data.schema import Feature, Schema
from training.models.families import FAMILIES
from training.models.family_search import FamilySearch
from training.models.final_model import FinalModel, PostFit
from training.models.grids import ParamGrid
from training.models.search_values import SearchResult, SearchSettings
from training.models.thresholds import EVEN
from training.parameters import FlowParameters
from training.plan import FileStore, FlowRun, Plan, TrainingRequest, make_plan
from training.trained_model import TrainedModel, train_model

SETTINGS = SearchSettings(scoring="roc_auc", n_folds=3, seed=0)
GRIDS: Mapping[str, ParamGrid] = {
    "logistic_regression": [{"C": [0.1, 1.0]}],
    "lightgbm": [{"n_estimators": [5, 20], "num_leaves": [3, 7]}],
}
LABELS: Mapping[int, tuple[int, ...] | tuple[str, ...]] = {
    2: (0, 1),
    3: ("high", "low", "mid"),
}


def make_rows(
    n_classes: int = 2, *, missing: bool = False, sparse: bool = False, seed: int = 0
) -> tuple[Schema, Rows, Rows]:
    """Return a schema of five features, 240 rows to learn from and 60 to hold out."""
    X, y = make_classification(
        n_samples=300,
        n_features=5,
        n_informative=4,
        n_redundant=0,
        n_classes=n_classes,
        random_state=seed,
    )
    # Columns of very different size, as real tables have.
    X = np.where(np.abs(X) < 0.5, 0, X) if sparse else X + [0, 500, 0, 10, 0]
    X = X * [1, 1e3, 1e-3, 1, 1]
    if missing:
        X[::5, 1] = np.nan
    schema = Schema(
        tuple(
            Feature(f"column {number}", nullable=missing and number == 1)
            for number in range(5)
        ),
        LABELS[n_classes],
        is_sparse=sparse,
    )
    held = slice(240, None)
    parts = [Rows(X[:240], y[:240]), Rows(X[held], y[held])]
    if sparse:
        parts = [Rows(csr_matrix(part.X), part.y) for part in parts]
    return schema, parts[0], parts[1]


def make_small_plan(schema: Schema, **changes: Any) -> Plan:
    """Return a plan that refers to no rows, because the test has them."""
    nowhere = RowsRef(FileRef("", ""), FileRef("", ""), (0, 0))
    run: dict[str, Any] = {
        "run_id": "TrainFlow/1",
        "start_time": datetime(2026, 1, 2, tzinfo=UTC),
        "parameters": FlowParameters(),
        "data_name": "table",
        "data_sha256": "ab" * 32,
        "code_version": "c0ffee",
    }
    settings = changes.pop("settings", SETTINGS)
    grids = changes.pop("grids", GRIDS)
    post_fit = changes.pop("post_fit", PostFit())
    return Plan(
        FlowRun(**{**run, **changes}),
        schema,
        settings,
        grids,
        nowhere,
        nowhere,
        summary="",
        post_fit=post_fit,
    )


def refuse_url(url: str, folder: Path) -> Path:
    """Refuse to fetch a table: those of tests are files."""
    raise FileNotFoundError(url)


def plan_here(
    folder: Path,
    parameters: FlowParameters,
    grids: Mapping[str, Any],
    columns: Mapping[str, Any] = MappingProxyType({}),
) -> Plan:
    """Do what the flow's first step does, in this process; the rows are kept in the folder."""
    request = TrainingRequest("TrainFlow/1", parameters, grids, "", columns)
    return make_plan(request, FileStore(folder, str, refuse_url))


def search_here(plan: Plan, family: str) -> SearchResult:
    """Do what the flow's search of a family does, in this process."""
    search = FamilySearch(
        FAMILIES[family], plan.schema, plan.grids[family], plan.settings
    )
    return search.run(open_rows(plan.train, Path), report=lambda line: None)


def as_final(pipeline: Pipeline) -> FinalModel:
    """Return a fitted pipeline as a final model, without calibration."""
    return FinalModel(pipeline, pipeline, (), EVEN.value)


def train_family(
    family: str, schema: Schema, train: Rows, holdout: Rows, **changes: Any
) -> TrainedModel:
    """Search one family, and train its best candidate."""
    scoring = "roc_auc" if schema.is_binary else "roc_auc_ovr"
    plan = make_small_plan(
        schema, **{"settings": replace(SETTINGS, scoring=scoring), **changes}
    )
    search = FamilySearch(FAMILIES[family], schema, plan.grids[family], plan.settings)
    result = search.run(train, report=lambda line: None)
    return train_model(plan, {family: result}, {}, train=train, holdout=holdout)
