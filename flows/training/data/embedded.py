"""The embedded data set: its name, and the function that loads it.

The module imports nothing, because the command line needs the name before any task starts.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

EMBEDDED = "breast_cancer"
LOADER = "sklearn.datasets.load_breast_cancer"


def load_embedded() -> "tuple[pd.DataFrame, pd.Series]":
    """Load the data set that scikit-learn brings along.

    Returns
    -------
    features : DataFrame of float64, shape (569, 30)
        Measurements.
    labels : Series of int64, shape (569,)
        0 or 1.
    """
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer(as_frame=True)
    return bunch.data, bunch.target
