"""The words around the pictures: the verdict, the comparison with the champion, and the lineage."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from prediction_common.secrets import redact
from training.models.baseline import shares_log_loss
from training.models.evaluation import PREFIX
from training.models.families import find_display_name
from training.parameters import DEFAULTS
from training.report.drawing import interval_bar, make_axis
from training.report.markup import (
    code,
    count,
    fold,
    name,
    number,
    paragraph,
    percent,
    plural,
    say,
    table,
)
from training.report.material import Material
from training.trained_model import TrainedModel

MEANINGS = {
    "roc_auc": ("ROC AUC", "1 ranks all rows right, 0.5 guesses"),
    "log_loss": ("Log loss", "0 is best"),
    "accuracy": ("Accuracy", "share of right answers"),
    "average_precision": ("Average precision", "1 is best"),
    "brier_score": ("Brier score", "0 is best"),
    "expected_calibration_error": ("Calibration error", "0 is best"),
    "precision": ("Precision", "right among the answered"),
    "recall": ("Recall", "found among the true"),
    "f1": ("F1", "precision and recall in one"),
}
COMPARED = {"score": "the chosen score", "log_loss": "log loss"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the registry made of the model.

    Parameters
    ----------
    model_name, version, alias, reason : str
        The registered model, its version, "champion" or "challenger", and why.
    champion : str
        Version that it was compared with; empty if there was none.
    figures : mapping of str to float
        Figures of the comparison by name; empty if there was none.
    """

    model_name: str
    version: str
    alias: str
    reason: str
    champion: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


def tell_model(material: Material) -> str:
    """Return which model won and how good it is, in two sentences, and its metrics."""
    trained, metrics = material.trained, material.trained.metrics
    winner, n = trained.winner, len(material.holdout.y)
    n_all = len(trained.cv_table)
    if winner.is_ensemble:
        best = f"a mean of {len(winner.members)} of {count(n_all)} candidates"
    else:
        best = f"{say(find_display_name(winner.family))}, the best of {count(n_all)} candidates"
    base = shares_log_loss(material.train.y, material.holdout.y)
    told = (
        f"The model is {best}. On {plural(n, 'row')} that it has not seen, it answers "
        f"{percent(metrics[f'{PREFIX}accuracy'])} right, with ROC AUC "
        f"{number(metrics[f'{PREFIX}roc_auc'])} and log loss "
        f"{number(metrics[f'{PREFIX}log_loss'])}, where the class shares alone have "
        f"{number(base)}."
    )
    weak = trained.weakness
    warning = paragraph(f"No model to rely on: {say(weak)}", "warn") if weak else ""
    tiles = "".join(
        f"<li>{title}<strong>{number(metrics[PREFIX + key])}</strong>"
        f'<span class="soft">{meaning}</span></li>'
        for key, (title, meaning) in MEANINGS.items()
        if PREFIX + key in metrics
    )
    return f'{paragraph(told, "lead")}{warning}<ul class="tiles">{tiles}</ul>'


def tell_outcome(outcome: Outcome | None) -> str:
    """Return the third sentence: what became of the model."""
    if outcome is None:
        return paragraph(
            "It is not registered yet: the report of the step <code>register</code>, which is "
            "also in MLflow, has the verdict.",
            "lead",
        )
    return paragraph(
        f"Version {say(outcome.version)} of {name(outcome.model_name)} is "
        f"<strong>{say(outcome.alias)}</strong>: {name(outcome.reason, 2000)}",
        "lead",
    )


def draw_comparison(outcome: Outcome | None) -> str:
    """Return how far the model is better than the champion, with intervals."""
    if outcome is None:
        return paragraph("The champion is met when the model is registered.")
    figures = outcome.figures
    complete = [
        (
            words,
            figures[f"{key}_low"],
            figures[f"{key}_difference"],
            figures[f"{key}_high"],
        )
        for key, words in COMPARED.items()
        if {f"{key}_low", f"{key}_difference", f"{key}_high"} <= set(figures)
    ]
    if not complete:
        return paragraph(
            "There is no comparison in figures: there was no champion, or it could not be "
            f"compared. The verdict says: {name(outcome.reason, 2000)}"
        )
    axis = make_axis(
        "", [bound for _, low, _, high in complete for bound in (low, high)], start=0
    )
    lines = [
        [
            words,
            interval_bar(axis, low, value, high, 0.0),
            *map(_sign, (value, low, high)),
        ]
        for words, low, value, high in complete
    ]
    return (
        paragraph(
            f"Both were asked about the same {count(int(figures.get('rows', 0)))} rows, which "
            "neither has learned from. An interval above 0, the vertical line, is surely better; "
            "one that holds 0 may be chance."
        )
        + table(
            f"Version {outcome.version} minus version {outcome.champion}, better is positive",
            ["Difference in", "95 % interval", "Value", "Low", "High"],
            lines,
        )
        + paragraph(
            f"Calibration error {number(figures.get('calibration_new', float('nan')))}, the "
            f"champion has {number(figures.get('calibration_old', float('nan')))}."
        )
    )


def _sign(value: float) -> str:
    return f"{value:+.4g}".replace("-", "−")


def draw_lineage(material: Material) -> str:
    """Return where the model comes from and what it took."""
    trained, run = material.trained, material.trained.plan.run
    facts = {
        "Flow run": run.run_id,
        "Started": f"{run.start_time:%Y-%m-%d %H:%M:%S %Z}",
        "Table": run.data_name,
        "SHA-256 of the table": run.data_sha256,
        "Code version": run.code_version or "unknown",
        "SHA-256 of the artifact": trained.artifact_sha256,
        "Size of the artifact": f"{len(trained.artifact) / 2**20:.3g} MiB",
        "Time for one row in the server": str(trained.latency or "not measured"),
        **{
            f"Version of {lib}": v
            for lib, v in sorted(trained.library_versions.items())
        },
    }
    times = {
        f"Fits of {find_display_name(family)}": f"{seconds:.3g} s, added up over the cores"
        for family, seconds in material.fit_seconds.items()
    }
    given = {key: str(value) for key, value in _list_given(trained).items()}
    parts = [
        _list_facts("Where the model comes from", facts),
        _list_facts("What the searches took", times),
        _list_facts("Parameters that are not the default", given),
    ]
    return "".join(parts)


def _list_facts(caption: str, facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    rows = [[say(key), name(redact(value), 300)] for key, value in facts.items()]
    return table(caption, ["What", "Value"], rows, n_texts=2)


def _list_given(trained: TrainedModel) -> dict[str, object]:
    defaults, given = asdict(DEFAULTS), asdict(trained.plan.run.parameters)
    return {key: value for key, value in given.items() if value != defaults[key]}


def tell_commands(trained: TrainedModel, outcome: Outcome | None) -> str:
    """Return how to serve the model and how to train it again."""
    flags = [
        f"--{key} {'' if value is True else shlex.quote(redact(str(value)))}".rstrip()
        for key, value in _list_given(trained).items()
        if value is not False
    ]
    again = " ".join(["python flows/train_flow.py run", *flags])
    told = "<h3>Train it again</h3>" + code([again])
    if trained.plan.run.code_version:
        told += paragraph(
            f"With the code of {name(trained.plan.run.code_version)}, the same table, grids and "
            "schema file (MLflow has <code>schema.toml</code>), the metrics are the same."
        )
    if outcome is None:
        return told
    uri = shlex.quote(f"models:/{outcome.model_name}/{outcome.version}")
    served = f"python -m grpc_server --host 127.0.0.1 --model-uri {uri}"
    return "<h3>Serve it</h3>" + code([served, "python -m prediction model"]) + told


def list_everything(summary: str) -> str:
    """Return the words that the log of the run has too."""
    shown = "\n".join(say(line) for line in summary.splitlines()[:100])
    return fold(
        "The summary in the log", f'<pre tabindex="0"><code>{shown}</code></pre>'
    )
