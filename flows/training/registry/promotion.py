"""Decides whether a new version becomes champion, and writes the decision down.

    version without a decision
        │  compare with the champion on the same hold-out
        ▼
    tag previous_champion ──▶ alias champion or challenger ──▶ tag decision

A call that is cut short goes on from the last of these that it finds.
"""

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from sklearn.pipeline import Pipeline

from training.data.rows import Rows
from training.registry.comparison import NotComparable, score_model
from training.registry.registration import CHALLENGER, CHAMPION
from training.trained_model import TrainedModel

DECISION_TAG = "decision"
PREVIOUS_CHAMPION_TAG = "previous_champion"


def decide(
    client: MlflowClient, version: ModelVersion, trained: TrainedModel, holdout: Rows
) -> tuple[str, str]:
    """Give a version its alias.

    Parameters
    ----------
    client : MlflowClient
        Client of the registry.
    version : ModelVersion
        Version of the trained model.
    trained : TrainedModel
        The model itself.
    holdout : Rows
        Rows on which it is compared with the champion.

    Returns
    -------
    alias, reason : str, str
        "champion" or "challenger", and why.
    """
    if DECISION_TAG in version.tags:
        alias, _, reason = version.tags[DECISION_TAG].partition(": ")
        return alias, reason
    name, number = version.name, version.version
    champion = _find_champion(client, version)
    alias, reason = _compare(champion, version, trained, holdout)
    # This tag precedes the alias, so that a call that is cut short knows whom it replaced.
    if champion is not None:
        client.set_model_version_tag(
            name, number, PREVIOUS_CHAMPION_TAG, champion.version
        )
    client.set_registered_model_alias(name, alias, number)
    client.set_model_version_tag(name, number, DECISION_TAG, f"{alias}: {reason}")
    return alias, reason


def _find_champion(client: MlflowClient, version: ModelVersion) -> ModelVersion | None:
    """Return the champion to compare a version with; None if there was none before it."""
    number = client.get_registered_model(version.name).aliases.get(CHAMPION)
    if str(number) == str(version.version):
        # A call that was cut short has made it champion already.
        number = version.tags.get(PREVIOUS_CHAMPION_TAG)
    return None if number is None else client.get_model_version(version.name, number)


def _compare(
    champion: ModelVersion | None,
    version: ModelVersion,
    trained: TrainedModel,
    holdout: Rows,
) -> tuple[str, str]:
    """Return the alias that a version earns, and why."""
    if trained.weakness:
        return CHALLENGER, f"{trained.weakness}. {_tell_promotion(version)}"
    if champion is None:
        return CHAMPION, "no other version was champion"
    schema, scoring = trained.plan.schema, trained.plan.settings.scoring
    try:
        champion_score = score_model(_load(champion), holdout, schema, scoring)
    except NotComparable as error:
        return CHALLENGER, (
            f"version {champion.version} cannot score these rows: {error}. "
            f"{_tell_promotion(version)}"
        )
    score = score_model(trained.estimator, holdout, schema, scoring)
    return CHAMPION if score > champion_score else CHALLENGER, (
        f"{scoring} {score:.6g} on the hold-out, "
        f"version {champion.version} has {champion_score:.6g}"
    )


def _tell_promotion(version: ModelVersion) -> str:
    return (
        "To promote by hand: MlflowClient().set_registered_model_alias("
        f'"{version.name}", "{CHAMPION}", "{version.version}")'
    )


def _load(version: ModelVersion) -> Pipeline:
    try:
        return mlflow.sklearn.load_model(f"models:/{version.name}/{version.version}")
    except (
        Exception
    ) as error:  # another program's or library's model may fail in any way
        raise NotComparable(f"it cannot be loaded ({type(error).__name__})") from None
