"""MLflow's types of a model's columns and of its answers."""

from typing import Any

import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType
from mlflow.types import Schema as MlflowSchema
from mlflow.types import TensorSpec
from mlflow.types.schema import AnyType
from numpy.typing import NDArray

from training.data.rows import Rows
from training.data.schema import TEMPORAL, Feature, Kind, Schema


def make_signature(schema: Schema, rows: Rows) -> Any:
    """Return MLflow's signature of a model.

    Parameters
    ----------
    schema : Schema
        Columns and classes.
    rows : Rows
        Rows of the data set, which show whether a numeric column holds whole numbers.

    Returns
    -------
    ModelSignature
        Types of the columns and of the predicted label.
    """
    is_text = isinstance(schema.class_labels[0], str)
    label = ColSpec(DataType.string if is_text else DataType.long)
    return ModelSignature(make_inputs(schema, rows), MlflowSchema([label]))


def make_inputs(schema: Schema, rows: Rows) -> MlflowSchema:
    """Return MLflow's types of the columns; parameters as in `make_signature`."""
    if schema.is_sparse:
        shape = (-1, len(schema.feature_names))
        return MlflowSchema([TensorSpec(np.dtype(np.float64), shape)])
    return MlflowSchema(
        [
            ColSpec(
                _find_type(feature, np.asarray(rows.X[:, position])),
                feature.name,
                required=not feature.nullable,
            )
            for position, feature in enumerate(schema.features)
        ]
    )


def _find_type(feature: Feature, values: NDArray[np.float64]) -> DataType | AnyType:
    any_type = AnyType()  # type: ignore[no-untyped-call]
    if feature.kind in TEMPORAL:
        # A table may hold dates as text, or in a type of its own.
        return any_type
    if feature.kind == Kind.BOOLEAN:
        # MLflow's model server turns a missing boolean into false.
        return any_type if feature.nullable else DataType.boolean
    if feature.categories and isinstance(feature.categories[0], str):
        return DataType.string
    # A table may hold whole numbers as integers or as doubles. MLflow accepts no integer for a
    # double, and no double for an integer.
    is_whole = bool((values == np.floor(values)).all())
    return any_type if is_whole else DataType.double
