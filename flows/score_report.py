"""What the scoring flow shows: its card, and its run in MLflow."""

from collections.abc import Mapping, Sequence
from typing import Any

_MAX_LISTED = 20
# Below it, rows are like those of training; above the second, they are others.
LITTLE, MUCH = 0.1, 0.25


def describe(manifest: Mapping[str, Any]) -> str:
    """Return the counts of a run in Markdown."""
    model = manifest["model"]
    name = model["name"] or "a model without a registry"
    lines = [
        f"# {manifest['rows']:,} rows scored",
        f"By version {model['version']} of {name}. {manifest['rows_written']:,} rows were "
        f"written, and {manifest['bad_rows']:,} could not be scored.",
        "## Answers",
        *_table(("class", "rows"), manifest["labels"].items()),
    ]
    if "stability" in manifest:
        largest = sorted(manifest["stability"].items(), key=lambda each: -each[1])
        lines += [
            "## Drift",
            f"Population stability index against the rows of training: below {LITTLE} is little, "
            f"above {MUCH} much.",
            *_table(
                ("what", "index"), ((n, f"{v:.3f}") for n, v in largest[:_MAX_LISTED])
            ),
        ]
    if manifest["first_bad_rows"]:
        columns = ("table", "row", "column", "value", "reason")
        rows = ([cell[c] for c in columns] for cell in manifest["first_bad_rows"])
        lines += ["## First bad rows", *_table(columns, list(rows)[:_MAX_LISTED])]
    return "\n".join(lines)


def plot_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chart of the scores beside those of training, for Vega-Lite."""
    total = max(1, sum(scores["rows"]))
    names = [f"≤ {edge:.3g}" for edge in scores["edges"]] + ["above"]
    series = (
        ("now", [rows / total for rows in scores["rows"]]),
        ("training", scores["reference_shares"]),
    )
    values = [
        {"bin": name, "rows": kind, "share": share}
        for kind, shares in series
        for name, share in zip(names, shares, strict=True)
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": "Scores, beside those of training",
        "data": {"values": values},
        "mark": "bar",
        "encoding": {
            "x": {"field": "bin", "type": "ordinal", "sort": None},
            "xOffset": {"field": "rows"},
            "y": {"field": "share", "type": "quantitative"},
            "color": {"field": "rows", "type": "nominal"},
        },
    }


def log_run(
    manifest: Mapping[str, Any], data: str, output: str, experiment: str, run_name: str
) -> str:
    """Log a run in MLflow, with the version and the rows that it scored.

    Parameters
    ----------
    manifest : mapping
        Manifest of the run.
    data, output : str
        Where the rows and the scores are.
    experiment : str
        Experiment of the run.
    run_name : str
        Name of the run.

    Returns
    -------
    str
        MLflow's run.

    Raises
    ------
    RegistryError
        If MLflow is not reached, or refuses.
    """
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag

    from training.registry.store import writing

    model = manifest["model"]
    digest = model["sha256"][:8] + f"-{manifest['rows']}"
    with writing():
        experiment_id = mlflow.set_experiment(experiment).experiment_id
        client = MlflowClient()
        run_id = str(client.create_run(experiment_id, run_name=run_name).info.run_id)
        for name in ("name", "version", "sha256"):
            client.log_param(run_id, f"model_{name}", model[name])
        client.log_param(run_id, "output", output)
        for name in ("rows", "rows_written", "bad_rows"):
            client.log_metric(run_id, name, manifest[name])
        if "stability" in manifest:
            client.log_metric(run_id, "stability_score", manifest["stability"]["score"])
            worst = max(manifest["stability"].values())
            client.log_metric(run_id, "stability_largest", worst)
        source = Dataset(data[-500:], digest, "local", f'{{"uri": "{data}"}}')
        tags = [InputTag("mlflow.data.context", "scoring")]
        client.log_inputs(run_id, [DatasetInput(source, tags)])
        client.log_dict(run_id, dict(manifest), "manifest.json")
        client.set_terminated(run_id)
    return run_id


def _table(columns: Sequence[str], rows: Any) -> list[str]:
    """Return a table in Markdown."""
    lines = ["", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]
