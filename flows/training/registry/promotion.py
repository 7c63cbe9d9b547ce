"""Decides whether a new version becomes champion, and writes the decision down.

    version without a decision
        │  compare its scored twin with the champion's on rows that neither has seen
        ▼
    tag previous_champion ──▶ alias champion or challenger ──▶ tag decision

A call that is cut short goes on from the last of these that it finds.
"""

from itertools import chain

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from training.data.rows import Rows
from training.registry.comparison import NotComparable, score_model
from training.registry.learned_rows import read_learned
from training.registry.registration import CHALLENGER, CHAMPION
from training.registry.twin_files import Opponent, open_opponent
from training.registry.unseen_rows import take_unseen
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
        Rows on which its scored twin is compared with the champion's.

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
    try:
        return _judge(champion, trained, holdout)
    except NotComparable as error:
        return CHALLENGER, (
            f"version {champion.version} cannot be compared on these rows: {error}. "
            f"{_tell_promotion(version)}"
        )


def _judge(
    champion: ModelVersion, trained: TrainedModel, holdout: Rows
) -> tuple[str, str]:
    """Compare the scored twins; NotComparable if they cannot be compared."""
    schema, scoring = trained.plan.schema, trained.plan.settings.scoring
    with open_opponent(champion) as opponent:
        rows, which = _choose_rows(opponent, trained, holdout)
        champion_score = score_model(opponent.model, rows, schema, scoring)
    score = score_model(trained.twin.estimator, rows, schema, scoring)
    reason = (
        f"{scoring} {score:.6g} on the hold-out, version {champion.version} has "
        f"{champion_score:.6g} ({which})"
    )
    return CHAMPION if score > champion_score else CHALLENGER, reason


def _choose_rows(
    opponent: Opponent, trained: TrainedModel, holdout: Rows
) -> tuple[Rows, str]:
    """Return the rows that neither scored twin has learned from, and a remark on them."""
    if opponent.learned is None:
        return holdout, (
            f"all {len(holdout.y)} rows; nobody knows which of them it has learned from"
        )
    learned = chain([trained.twin.learned], read_learned(opponent.learned))
    rows = take_unseen(holdout, trained.plan.schema, learned)
    which = f"{len(rows.y)} of {len(holdout.y)} rows, which neither has learned from"
    return rows, which


def _tell_promotion(version: ModelVersion) -> str:
    return (
        "To promote by hand: MlflowClient().set_registered_model_alias("
        f'"{version.name}", "{CHAMPION}", "{version.version}")'
    )
