# /// script
# requires-python = ">=3.11"
# dependencies = ["autogluon.tabular[lightgbm,catboost,xgboost]>=1.4,<2"]
# ///
"""AutoGluon with its preset for a CPU and little time, by log loss."""

import tempfile

import common
from autogluon.tabular import TabularPredictor


def predict(train, codes, test, seconds):
    """Fit for the seconds."""
    common.let_clocks_show_cpu_seconds()
    frame = train.assign(label_=codes)
    with tempfile.TemporaryDirectory() as folder:
        predictor = TabularPredictor(
            "label_", eval_metric="log_loss", path=folder, verbosity=0
        )
        predictor.fit(
            frame,
            time_limit=seconds,
            presets="medium_quality",
            num_cpus=1,
            num_gpus=0,
            dynamic_stacking=False,
        )
        return predictor.predict_proba(test, as_pandas=False, as_multiclass=True)


if __name__ == "__main__":
    common.run(predict)
