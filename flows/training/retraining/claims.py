"""Lets one retraining of a model run at a time, and writes each into the registry's history.

    look ──▶ decision ──▶ look again ──▶ train ──▶ outcome

Whoever sees another open retraining at the second look gives way. Of two that begin at the same
time, the later decision is written before its second look, so at least one of them sees the other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from secrets import randbelow

from mlflow import MlflowClient

from training.errors import RegistryError
from training.registry.decisions import (
    RETRAIN,
    RETRAINING,
    Decision,
    History,
    cut_reason,
    tell,
    write_decision,
)
from training.registry.history import Clerk, make_decision, read_history
from training.registry.versions import find_version

ATTEMPTS = 4
GAVE_WAY = "gave way to another"
MAX_OUTCOME = 500  # characters


@dataclass(frozen=True, slots=True)
class Limits:
    """How close retrainings may be.

    Parameters
    ----------
    longest : timedelta
        An open retraining that began before is taken for dead.
    pause : timedelta
        Least time between the beginnings of two.
    """

    longest: timedelta
    pause: timedelta


def find_obstacle(history: History, now: datetime, limits: Limits) -> str:
    """Return why no retraining may begin now; empty if one may.

    Parameters
    ----------
    history : History
        The history of the registered model.
    now : datetime
        The time, with a time zone.
    limits : Limits
        How close retrainings may be.

    Returns
    -------
    str
        In words.
    """
    for decision in reversed(history.of_alias(RETRAINING)):
        age = _measure_age(decision, now)
        outcome = history.outcomes.get(decision.outcome_tag)
        if outcome == GAVE_WAY or age is None:
            continue
        if outcome is None and age < limits.longest:
            return (
                f"retraining {tell(decision)} runs since {decision.time}; if it was cut short, "
                f"lower --longest-hours {limits.longest / timedelta(hours=1):g} for once"
            )
        if age < limits.pause:
            return (
                f"the last retraining, {tell(decision)}, began at {decision.time}, within "
                f"--pause-hours {limits.pause / timedelta(hours=1):g}"
            )
    return ""


def _measure_age(decision: Decision, now: datetime) -> timedelta | None:
    """Return the age of a decision; None if its time is none that has been."""
    try:
        age = now - datetime.fromisoformat(decision.time)
    except (ValueError, TypeError, OverflowError):
        return None
    # Clocks of machines differ a little.
    return max(age, timedelta()) if age > -timedelta(minutes=5) else None


def claim(
    client: MlflowClient,
    name: str,
    clerk: Clerk,
    limits: Limits,
    why: str,
    figures: Mapping[str, float],
    wait: Callable[[float], object],
) -> Decision | str:
    """Write down that a retraining begins, unless another one runs.

    Parameters
    ----------
    client : MlflowClient
        Client of the registry.
    name : str
        The registered model, which has a champion.
    clerk : Clerk
        Who decides.
    limits : Limits
        How close retrainings may be.
    why : str
        The signal, in words.
    figures : mapping of str to float
        The same for programs.
    wait : callable
        Waits for so many seconds.

    Returns
    -------
    Decision or str
        The decision, which has no outcome yet, or why there is none.

    Raises
    ------
    RegistryError
        If the model has no champion.
    """
    for attempt in range(ATTEMPTS):
        history = read_history(client, name)
        obstacle = find_obstacle(history, clerk.now(), limits)
        if obstacle:
            return obstacle
        decision = _write(client, history, clerk, why, figures)
        others = _without(read_history(client, name), decision)
        # The pause does not count here: the other one may give way too.
        open_only = replace(limits, pause=timedelta())
        obstacle = find_obstacle(others, clerk.now(), open_only)
        if not obstacle:
            return decision
        finish(client, name, decision, GAVE_WAY)
        wait(randbelow(1000) / 1000 * 2**attempt)
    return obstacle


def _write(
    client: MlflowClient,
    history: History,
    clerk: Clerk,
    why: str,
    figures: Mapping[str, float],
) -> Decision:
    champion = history.aliases.get("champion")
    if champion is None:
        raise RegistryError(
            f"{history.name} has no champion to replace; train the first version by "
            "flows/train_flow.py"
        )
    decision = make_decision(
        history,
        find_version(client, history.name, champion),
        clerk,
        action=RETRAIN,
        alias=RETRAINING,
        why=why,
    )
    decision = cut_reason(replace(decision, evidence=dict(figures)))
    client.set_registered_model_tag(
        history.name, decision.tag, write_decision(decision)
    )
    return decision


def _without(history: History, decision: Decision) -> History:
    others = tuple(one for one in history.decisions if one.tag != decision.tag)
    return replace(history, decisions=others)


def finish(client: MlflowClient, name: str, decision: Decision, outcome: str) -> None:
    """Write how a retraining ended."""
    client.set_registered_model_tag(name, decision.outcome_tag, outcome[:MAX_OUTCOME])
