"""This project: both searches with the default grids, the winner fitted on all rows."""

import os
import sys
import tempfile
import tomllib
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT / "flows"))

import common  # noqa: E402  # the path and the threads come first
import pandas as pd  # noqa: E402

from training.data.encoding import to_matrix, to_table  # noqa: E402
from training.data.rows import open_rows  # noqa: E402
from training.models.families import FAMILIES  # noqa: E402
from training.models.family_search import FamilySearch  # noqa: E402
from training.parameters import FlowParameters  # noqa: E402
from training.plan import FileStore, TrainingRequest, make_plan  # noqa: E402
from training.trained_model import train_model  # noqa: E402


def fetch(url, _):
    """Refuse: the table is a file."""
    raise FileNotFoundError(url)


def predict(folder, target):
    """Return classes and probabilities, by the steps of the flow in one process."""
    grids = tomllib.loads((ROOT / "flows" / "search.toml").read_text())
    parameters = FlowParameters(data=str(folder / "train.csv"), target=target)
    with tempfile.TemporaryDirectory() as scratch:
        store = FileStore(Path(scratch), str, fetch)
        plan = make_plan(TrainingRequest("quality/1", parameters, grids, ""), store)
        train, holdout = (open_rows(ref, Path) for ref in (plan.train, plan.holdout))
        results = {
            name: FamilySearch(
                family, plan.schema, plan.grids[name], plan.settings
            ).run(train)
            for name, family in FAMILIES.items()
        }
        trained = train_model(plan, results, {}, train=train, holdout=holdout)
    frame = pd.read_csv(folder / "test.csv", keep_default_na=False, na_values=[""])
    X = to_table(to_matrix(frame, plan.schema.features), plan.schema)
    return trained.plan.schema.class_labels, trained.estimator.predict_proba(X)


def main():
    """Read the task and write the answer."""
    folder = Path(sys.argv[1])
    begin = common.cpu_seconds()
    classes, probabilities = predict(folder, common.read_target(folder))
    common.write(
        folder,
        [str(one) for one in classes],
        probabilities,
        common.cpu_seconds() - begin,
    )


if __name__ == "__main__":
    main()
