"""The scoring flow: shards hold each row once, one version scores all, and a run is logged."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from score_report import describe, log_run, plot_scores
from score_shards import ScoringError, add_up, list_shards, pin_model, score_shard

from support import ROOT, lightgbm_artifact, write_artifact, write_version

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder of version 7 of a model of six numbers."""
    return write_version(tmp_path / "model", lightgbm_artifact(2)[0], "7")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder of two tables of 50 and 20 rows."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for name, n_rows in (("a", 50), ("b", 20)):
        columns = {f"f{number}": rng.normal(size=n_rows) for number in range(6)}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=15)
    return folder


@pytest.mark.parametrize(
    ("shard_rows", "expected"),
    [
        (1, [(0, 1), (1, 2), (2, 3), (3, 4), (0, 1), (1, 2)]),
        (30, [(0, 2), (2, 4), (0, 2)]),
        (1000, [(0, 4), (0, 2)]),
    ],
)
def test_shards_hold_each_row_group_once(
    data: Path, shard_rows: int, expected: list[tuple[int, int]]
) -> None:
    shards = list_shards(str(data), shard_rows)

    assert [shard.groups for shard in shards] == expected
    assert [shard.number for shard in shards] == list(range(len(expected)))
    assert sum(shard.n_rows or 0 for shard in shards) == 70


def test_scores_do_not_depend_on_the_shards(
    data: Path, model: Path, tmp_path: Path
) -> None:
    pinned = pin_model(str(model), tmp_path / "scratch")
    tables = []
    for shard_rows in (1, 30, 1000):
        output = tmp_path / f"out {shard_rows}"
        shards = list_shards(str(data), shard_rows)
        scratch = tmp_path / "scratch"
        manifests = [score_shard(s, pinned, str(output), [], scratch) for s in shards]
        # A retry of a task finds its parts.
        again = score_shard(shards[0], pinned, str(output), [], scratch)
        manifest = add_up(shards, manifests, pinned, scratch)

        assert again == manifests[0]
        assert manifest["rows"] == manifest["rows_written"] == 70
        assert manifest["model"]["version"] == "7"
        tables.append(
            pa.concat_tables(map(pq.read_table, sorted(output.glob("*/part-*"))))
        )

    assert tables[0].equals(tables[1]) and tables[1].equals(tables[2])


def test_lost_rows_and_other_models_are_refused(
    data: Path, model: Path, tmp_path: Path
) -> None:
    pinned = pin_model(str(model), tmp_path)
    shards = list_shards(str(data), 1000)
    manifests = [
        score_shard(s, pinned, str(tmp_path / "o"), [], tmp_path) for s in shards
    ]

    lost = [manifests[0] | {"rows_written": 49}, manifests[1]]
    with pytest.raises(ScoringError, match="shard-00000 has 49 rows of 50"):
        add_up(shards, lost, pinned, tmp_path)
    fewer = [manifests[0] | {"rows": 49, "rows_written": 49}, manifests[1]]
    with pytest.raises(ScoringError, match="has 50; remove it"):
        add_up(shards, fewer, pinned, tmp_path)
    other = write_artifact(tmp_path / "other", lightgbm_artifact(3)[0])
    with pytest.raises(ScoringError, match="has scores of another model"):
        add_up(shards, manifests, pin_model(str(other), tmp_path), tmp_path)


def test_what_cannot_be_scored_is_one_sentence(
    data: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ScoringError, match="--model 'models:/x' is|--model 'models:/x'"
    ):
        pin_model("models:/x", tmp_path)
    with pytest.raises(ScoringError, match="no model.binpb|model.binpb"):
        pin_model(str(data), tmp_path)
    with pytest.raises(ScoringError, match="does not exist"):
        list_shards(str(data / "none.parquet"), 10)
    (data / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ScoringError, match="a.parquet cannot be read as Parquet"):
        list_shards(str(data), 10)


def test_a_run_is_shown_and_logged(store: "MlflowClient") -> None:
    bad = {"table": "a|b", "row": 3, "column": "f0", "value": "null", "reason": "no"}
    manifest: dict[str, Any] = {
        "rows": 10,
        "rows_written": 9,
        "bad_rows": 1,
        "model": {"name": "iris", "version": "7", "sha256": "ab" * 32},
        "labels": {"0": 4, "1": 5},
        "scores": {"edges": [0.5], "rows": [4, 5], "reference_shares": [0.5, 0.5]},
        "stability": {"score": 0.01, "column f0": 0.3},
        "first_bad_rows": [bad],
    }

    text = describe(manifest)
    run_id = log_run(manifest, "rows.parquet", "out", "scoring", "ScoreFlow/1")

    assert "version 7 of iris" in text and "| column f0 | 0.300 |" in text
    assert "a\\|b" in text
    shares = [v["share"] for v in plot_scores(manifest["scores"])["data"]["values"]]
    assert shares == [4 / 9, 5 / 9, 0.5, 0.5]
    run = store.get_run(run_id)
    assert run.data.params["model_version"] == "7"
    assert run.data.metrics["stability_largest"] == 0.3
    assert [
        d.dataset.name for d in (run.inputs.dataset_inputs if run.inputs else ())
    ] == ["rows.parquet"]


@pytest.mark.slow
def test_the_flow_scores_a_folder(
    data: Path, model: Path, store: "MlflowClient", tmp_path: Path
) -> None:
    import mlflow

    page = (ROOT / "docs" / "scoring.md").read_text()
    (line,) = re.findall("^python flows/score_flow.py .*", page, re.MULTILINE)
    changes = {
        "python": sys.executable,
        "flows/score_flow.py": str(ROOT / "flows" / "score_flow.py"),
        "models:/tabular_classifier@champion": str(model),
        "rows.parquet": str(data),
        "--keep id": "--keep f1",
    }
    program = [changes.get(word, word) for word in shlex.split(line)]
    environ = {**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}

    result = subprocess.run(
        [*program, "--shard_rows", "60"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "70 of 70 rows are in" in result.stdout
    manifest = json.loads((tmp_path / "scores-of-flow" / "_manifest.json").read_text())
    assert manifest["rows_written"] == 70 and len(manifest["shards"]) == 2
