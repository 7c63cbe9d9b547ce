"""Carries decisions out in MLflow: the decision first, then the alias, then its outcome.

    tag decision ──▶ alias ──▶ tag outcome

MLflow cannot change tags and aliases together. So two rules hold: the alias follows the last
decision, and whoever moves it looks for a later decision before and after. Whoever finds one leaves
the alias to it. A call that was cut short leaves a decision without an outcome, which the next call
finishes or reports.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from getpass import getuser
from secrets import token_hex

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from training.errors import RegistryError
from training.registry.decisions import (
    DONE,
    OVERTAKEN,
    Decision,
    History,
    read_tags,
    tell,
    write_decision,
)
from training.text import escape

MAX_WHO = 200  # characters


class Overtaken(RegistryError):
    """Another decision on the same alias came later, and stands."""


@dataclass(frozen=True, slots=True)
class Clerk:
    """Who writes into the history.

    Parameters
    ----------
    who : str
        The user and the machine, as they name themselves.
    now : callable
        Returns the time, with its time zone.
    """

    who: str
    now: Callable[[], datetime]


def find_clerk() -> Clerk:
    """Return the user of this program. The operating system's word is all that there is."""
    try:
        user = getuser()
    except (OSError, KeyError):
        # A pod may run as a user that has no name.
        user = "somebody"
    who = escape(f"{user} on {socket.gethostname()}")[:MAX_WHO]
    return Clerk(who, lambda: datetime.now(UTC))


def read_history(client: MlflowClient, name: str) -> History:
    """Read the history of a registered model.

    Parameters
    ----------
    client : MlflowClient
        Client of the registry.
    name : str
        The registered model.

    Returns
    -------
    History
        Its decisions and aliases.

    Raises
    ------
    RegistryError
        If there is no such model.
    """
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise RegistryError(
            f"there is no registered model {name!r}; give its name with --model_name"
        ) from None
    return read_tags(name, model.tags, model.aliases)


def make_decision(
    history: History,
    version: ModelVersion,
    clerk: Clerk,
    *,
    action: str,
    alias: str,
    why: str,
) -> Decision:
    """Make the next decision of a history, without writing it.

    Parameters
    ----------
    history : History
        The history so far.
    version : ModelVersion
        Version that gets the alias.
    clerk : Clerk
        Who decides.
    action, alias, why : str
        As in `Decision`.

    Returns
    -------
    Decision
        The decision.
    """
    return Decision(
        number=history.next_number(),
        id=token_hex(4),
        time=clerk.now().isoformat(timespec="seconds"),
        who=clerk.who,
        action=action,
        alias=alias,
        came_from=history.aliases.get(alias, ""),
        to=str(version.version),
        why=why,
        git_commit=escape(version.tags.get("git_commit", ""))[:100],
        flow_run=escape(version.tags.get("metaflow_run_id", ""))[:100],
    )


def carry_out(client: MlflowClient, name: str, decision: Decision) -> None:
    """Write a decision, and let the alias follow.

    Parameters
    ----------
    client : MlflowClient
        Client of the registry.
    name : str
        The registered model.
    decision : Decision
        The decision; one that was written already is finished.

    Raises
    ------
    Overtaken
        If somebody decided at the same time, and that decision stands.
    """
    client.set_registered_model_tag(name, decision.tag, write_decision(decision))
    _check_last(client, name, decision)
    client.set_registered_model_alias(name, decision.alias, decision.to)
    _follow_the_last(client, name, decision)
    _check_last(client, name, decision)
    client.set_registered_model_tag(name, decision.outcome_tag, DONE)


def _follow_the_last(client: MlflowClient, name: str, followed: Decision) -> None:
    """Move the alias on to the last decision: it may just have been moved back from there."""
    while (later := read_history(client, name).after(followed)) is not None:
        client.set_registered_model_alias(name, later.alias, later.to)
        followed = later


def _check_last(client: MlflowClient, name: str, decision: Decision) -> None:
    """Raise Overtaken, after a note in the history, if there is a later decision on the alias."""
    later = read_history(client, name).after(decision)
    if later is not None:
        set_aside(client, name, decision, later)
        raise Overtaken(
            f"decision {tell(decision)} is overtaken by decision {tell(later)}, which was "
            "made at the same time and stands; look at the history, and decide again if need be"
        )


def set_aside(
    client: MlflowClient, name: str, decision: Decision, later: Decision
) -> None:
    """Note that a later decision has overtaken one."""
    outcome = f"{OVERTAKEN} {later.number}"
    client.set_registered_model_tag(name, decision.outcome_tag, outcome)
