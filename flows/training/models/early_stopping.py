"""LightGBM with early stopping, as a classifier that a scikit-learn pipeline can hold."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import train_test_split

# Share of its training rows that early stopping watches.
VALIDATION_FRACTION = 0.1


class EarlyStoppingClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Fits a LightGBM classifier, and stops it by the loss on a slice of its own training rows.

    The slice is drawn from the rows that `fit` gets. In a search these are the training fold, so
    early stopping never sees the fold that scores.

    Parameters
    ----------
    classifier : LGBMClassifier
        Classifier to fit; its `n_estimators` is the largest number of rounds.
    rounds : int, default=10
        Stop after this many rounds without a better loss, 1 or more.
    seed : int, default=0
        Seed of the draw.

    Attributes
    ----------
    classifier_ : LGBMClassifier
        The fitted classifier; it predicts with its best iteration.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    """

    def __init__(self, classifier: Any, rounds: int = 10, seed: int = 0) -> None:
        self.classifier = classifier
        self.rounds = rounds
        self.seed = seed

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: NDArray[np.float64] | None = None
    ) -> "EarlyStoppingClassifier":
        """Fit on all rows but the slice.

        Parameters
        ----------
        X : ndarray, csr_matrix or DataFrame, shape (n_rows, n_features)
            Features.
        y : array-like, shape (n_rows,)
            Class labels.
        sample_weight : ndarray of float64, shape (n_rows,), optional
            How much each row counts, 0 or more.

        Returns
        -------
        EarlyStoppingClassifier
            This object.
        """
        from lightgbm import early_stopping

        weight = np.ones(len(np.asarray(y))) if sample_weight is None else sample_weight
        X_fit, X_watch, y_fit, y_watch, w_fit, w_watch = train_test_split(
            X,
            y,
            weight,
            test_size=VALIDATION_FRACTION,
            random_state=self.seed,
            stratify=y,
        )
        self.classifier_ = clone(self.classifier).fit(
            X_fit,
            y_fit,
            sample_weight=None if sample_weight is None else w_fit,
            eval_X=(X_watch,),
            # LightGBM 4.7 encodes the labels that it fits, but not those that it watches.
            eval_y=(np.searchsorted(np.unique(y_fit), y_watch),),
            eval_sample_weight=None if sample_weight is None else [w_watch],
            callbacks=[early_stopping(self.rounds, verbose=False)],
        )
        self.classes_ = self.classifier_.classes_
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predicted class label of each row, shape (n_rows,)."""
        return np.asarray(self.classifier_.predict(X))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, float64, shape (n_rows, n_classes)."""
        return np.asarray(self.classifier_.predict_proba(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return raw scores, float64, shape (n_rows,) for two classes, else (n_rows, n_classes)."""
        return np.asarray(self.classifier_.decision_function(X))
