"""Decides whether a new version becomes champion, and writes the decision down.

    version without a decision
        │  compare its scored twin with the champion's on rows that neither has seen
        ▼
    tags of the version ──▶ history ──▶ alias champion or challenger ──▶ tag decision

A call that is cut short goes on from the last of these that it finds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from shlex import quote

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from training.data.rows import Rows
from training.models.champion_policy import NEVER, ChampionPolicy, find_segment
from training.plan import make_policy
from training.registry.comparison import NotComparable, answer_rows
from training.registry.decisions import DONE, REGISTER, Decision, cut_reason
from training.registry.evidence import Evidence, compare_answers, compare_segments
from training.registry.history import (
    Overtaken,
    carry_out,
    find_clerk,
    make_decision,
    read_history,
)
from training.registry.learned_rows import read_learned
from training.registry.registration import (
    CHALLENGER,
    CHAMPION,
    FIGURE_PREFIX,
    PREVIOUS_CHAMPION_TAG,
)
from training.registry.twin_files import Opponent, open_opponent
from training.registry.unseen_rows import take_unseen
from training.registry.verdict import judge, make_figures, tell_evidence
from training.text import shorten
from training.trained_model import TrainedModel

DECISION_TAG = "decision"
MAX_TAG = 5000  # characters that the databases of MLflow's servers hold
# Characters of why a champion cannot be compared: its names and errors are another program's.
MAX_WHY = 500
MAX_COMPARISONS = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a version earns.

    Parameters
    ----------
    alias, reason : str
        "champion" or "challenger", and why.
    figures : mapping of str to float
        Figures of the comparison; empty if there was none.
    """

    alias: str
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


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
    decision = _find_decision(client, version)
    if decision is None:
        champion, verdict = _compare_with_champion(client, version, trained, holdout)
        _write_tags(client, version, champion, verdict)
        decision = _make(client, version, verdict)
    decision = _carry_out(client, version, decision)
    text = f"{decision.alias}: {decision.why}"[:MAX_TAG]
    client.set_model_version_tag(version.name, version.version, DECISION_TAG, text)
    return decision.alias, decision.why


def _find_decision(client: MlflowClient, version: ModelVersion) -> Decision | None:
    """Return the decision that a call wrote before it was cut short."""
    number = str(version.version)
    found = [
        one
        for one in read_history(client, version.name).decisions
        if (one.action, one.to) == (REGISTER, number)
    ]
    return found[-1] if found else None


def _compare_with_champion(
    client: MlflowClient, version: ModelVersion, trained: TrainedModel, holdout: Rows
) -> tuple[ModelVersion | None, Verdict]:
    """Compare until the champion is still the same afterwards."""
    for _ in range(MAX_COMPARISONS):
        number = read_history(client, version.name).aliases.get(CHAMPION)
        champion, verdict = _meet(client, version, number, trained, holdout)
        if read_history(client, version.name).aliases.get(CHAMPION) == number:
            return champion, verdict
    reason = "the champion changed during each comparison"
    return None, Verdict(CHALLENGER, f"{reason}. {_tell_promotion(version)}")


def _meet(
    client: MlflowClient,
    version: ModelVersion,
    number: str | None,
    trained: TrainedModel,
    holdout: Rows,
) -> tuple[ModelVersion | None, Verdict]:
    try:
        champion = client.get_model_version(version.name, number) if number else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        reason = f"version {number}, the champion, was deleted"
        return None, Verdict(CHALLENGER, f"{reason}. {_tell_promotion(version)}")
    return champion, _compare(champion, version, trained, holdout)


def _write_tags(
    client: MlflowClient,
    version: ModelVersion,
    champion: ModelVersion | None,
    verdict: Verdict,
) -> None:
    tags = {
        f"{FIGURE_PREFIX}{name}": f"{value:.6g}"
        for name, value in verdict.figures.items()
    }
    if champion is not None:
        tags[PREVIOUS_CHAMPION_TAG] = champion.version
    for name, text in tags.items():
        client.set_model_version_tag(version.name, version.version, name, text)


def _make(client: MlflowClient, version: ModelVersion, verdict: Verdict) -> Decision:
    history = read_history(client, version.name)
    decision = make_decision(
        history,
        version,
        find_clerk(),
        action=REGISTER,
        alias=verdict.alias,
        why=verdict.reason,
    )
    return cut_reason(replace(decision, evidence=dict(verdict.figures)))


def _carry_out(
    client: MlflowClient, version: ModelVersion, decision: Decision
) -> Decision:
    """Let the alias follow; a version whose promotion was overtaken is challenger."""
    outcomes = read_history(client, version.name).outcomes
    if outcomes.get(decision.outcome_tag) == DONE:
        return decision
    try:
        carry_out(client, version.name, decision)
        return decision
    except Overtaken as error:
        if decision.alias != CHAMPION:
            return decision  # a newer challenger has the alias already
        reason = f"{error}. {_tell_promotion(version)}"
        return _carry_out(
            client, version, _make(client, version, Verdict(CHALLENGER, reason))
        )


def _compare(
    champion: ModelVersion | None,
    version: ModelVersion,
    trained: TrainedModel,
    holdout: Rows,
) -> Verdict:
    """Return what a version earns."""
    policy = make_policy(trained.plan.run.parameters)
    if obstacle := _find_obstacle(trained, policy):
        return Verdict(CHALLENGER, f"{obstacle}. {_tell_promotion(version)}")
    if champion is None:
        reason = "no other version was champion"
        if trained.latency is not None:
            reason += f"; one row takes {trained.latency}"
        return Verdict(CHAMPION, reason)
    try:
        return _judge(champion, trained, holdout, policy)
    except NotComparable as error:
        return Verdict(
            CHALLENGER,
            f"version {champion.version} cannot be compared on these rows: "
            f"{shorten(str(error), MAX_WHY)}. "
            f"{_tell_promotion(version)}",
        )


def _find_obstacle(trained: TrainedModel, policy: ChampionPolicy) -> str:
    """Say why a version does not become champion by itself, whatever the champion is."""
    if trained.weakness:
        return trained.weakness
    if policy.promotion == NEVER:
        return "only a user promotes (--promotion never)"
    return policy.find_excess(len(trained.artifact), trained.latency)


def _judge(
    champion: ModelVersion,
    trained: TrainedModel,
    holdout: Rows,
    policy: ChampionPolicy,
) -> Verdict:
    """Compare the scored twins; NotComparable if they cannot be compared."""
    evidence, which = _collect_evidence(champion, trained, holdout, policy)
    alias, reason = judge(evidence, policy)
    told = (
        f"{evidence.scoring} {evidence.score.new:.6g} on the hold-out, version "
        f"{champion.version} has {evidence.score.old:.6g} ({which}). "
        f"{tell_evidence(evidence, policy.segment)} {_tell_latency(trained)}{reason}"
    )
    return Verdict(alias, told, make_figures(evidence))


def _tell_latency(trained: TrainedModel) -> str:
    return "" if trained.latency is None else f"One row takes {trained.latency}. "


def _collect_evidence(
    champion: ModelVersion,
    trained: TrainedModel,
    holdout: Rows,
    policy: ChampionPolicy,
) -> tuple[Evidence, str]:
    """Return the evidence, and a remark on its rows."""
    schema, scoring = trained.plan.schema, trained.plan.settings.scoring
    with open_opponent(champion) as opponent:
        rows, which = _choose_rows(opponent, trained, holdout)
        old = answer_rows(opponent.model, rows, schema)
    new = answer_rows(trained.twin.estimator, rows, schema)
    evidence = compare_answers(scoring, rows.y, new, old)
    if not policy.segment:
        return evidence, which
    column = find_segment(policy.segment, schema)
    segments = compare_segments(scoring, rows, (new, old), column)
    return replace(evidence, segments=segments), which


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
    name = quote(version.name)
    return (
        f"To promote by hand: python flows/registry.py promote {version.version} "
        f"--model_name {name} --reason TEXT"
    )
