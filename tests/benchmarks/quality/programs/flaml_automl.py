# /// script
# requires-python = ">=3.11"
# dependencies = ["flaml[automl]>=2.3,<3", "scikit-learn<1.8", "pandas<3", "numpy<2.4"]
# ///
"""FLAML with its own list of estimators, by log loss."""

import common
from flaml import AutoML


def predict(train, codes, test, seconds):
    """Search for the seconds."""
    common.let_clocks_show_cpu_seconds()
    model = AutoML()
    model.fit(
        train,
        codes,
        task="classification",
        metric="log_loss",
        time_budget=seconds,
        n_jobs=1,
        seed=0,
        verbose=0,
    )
    return model.predict_proba(test)


if __name__ == "__main__":
    common.run(predict)
