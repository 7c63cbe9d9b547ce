"""Promotes a version by hand, and rolls back to an earlier one."""

from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from training.errors import RegistryError
from training.registry.decisions import (
    PROMOTE,
    ROLLBACK,
    VERSION,
    Decision,
    History,
    list_retired,
    tell,
)
from training.registry.history import (
    Clerk,
    carry_out,
    make_decision,
    read_history,
    set_aside,
)
from training.registry.registration import CHAMPION, PREVIOUS_CHAMPION_TAG
from training.registry.versions import check_servable, find_version
from training.text import escape

RETIRED_TAG = "retired"


@dataclass(frozen=True, slots=True)
class Order:
    """What a user wants.

    Parameters
    ----------
    name : str
        The registered model.
    why : str
        The reason, one line.
    clerk : Clerk
        Who wants it.
    """

    name: str
    why: str
    clerk: Clerk


def promote(client: MlflowClient, order: Order, number: str) -> list[str]:
    """Make a version champion.

    Parameters
    ----------
    client : MlflowClient
        Client of the registry.
    order : Order
        Who wants it, of which model, and why.
    number : str
        The version.

    Returns
    -------
    list of str
        Lines for the user.

    Raises
    ------
    RegistryError
        If there is no such version, no server could serve it, it is the champion already, or
        somebody decided otherwise at the same time.
    """
    return _move(client, order, PROMOTE, read_history(client, order.name), number)


def rollback(client: MlflowClient, order: Order, number: str | None) -> list[str]:
    """Make an earlier version champion again.

    Parameters
    ----------
    client, order
        As in `promote`.
    number : str or None
        The version; None for the champion before this one.

    Returns
    -------
    list of str
        Lines for the user.

    Raises
    ------
    RegistryError
        As in `promote`, or if the history knows no champion before this one.
    """
    history = read_history(client, order.name)
    if number is None:
        number = _find_to_finish(history) or _find_previous(client, history)
    return _move(client, order, ROLLBACK, history, number)


def _find_to_finish(history: History) -> str | None:
    """Return the target of a rollback that was cut short, unless the alias has moved since."""
    unfinished = history.find_unfinished(CHAMPION)
    if unfinished is None or unfinished.action != ROLLBACK:
        return None
    now = history.aliases.get(CHAMPION, "")
    return unfinished.to if now in (unfinished.came_from, unfinished.to) else None


def _find_previous(client: MlflowClient, history: History) -> str:
    champions = history.list_champions()
    now = history.aliases.get(CHAMPION)
    if now is None and champions:
        return champions[-1]
    if len(champions) > 1:
        return champions[-2]
    if now is not None:
        # An older program wrote no history, but this tag.
        tags = find_version(client, history.name, now).tags
        if VERSION.fullmatch(tags.get(PREVIOUS_CHAMPION_TAG, "")):
            return str(tags[PREVIOUS_CHAMPION_TAG])
    raise RegistryError(
        f"the history of {history.name} knows no champion before "
        f"{'version ' + now if now else 'today'}; name a version with --to"
    )


def _move(
    client: MlflowClient, order: Order, action: str, history: History, number: str
) -> list[str]:
    version = find_version(client, order.name, number)
    check_servable(version)
    unfinished = history.find_unfinished(CHAMPION)
    if unfinished and (unfinished.action, unfinished.to) == (action, number):
        carry_out(client, order.name, unfinished)
        remark = "This finishes a call that was cut short; its reason stands."
        return [_tell_champion(order.name, unfinished), remark]
    if history.aliases.get(CHAMPION) == number:
        raise RegistryError(
            f"{order.name} version {number} is the champion already; nothing was changed"
        )
    decision = make_decision(
        history, version, order.clerk, action=action, alias=CHAMPION, why=order.why
    )
    if action == ROLLBACK:
        _retire(client, order, decision)
    carry_out(client, order.name, decision)
    return [
        _tell_champion(order.name, decision),
        *_tell_unfinished(client, order.name, history, decision),
        *_tell_retired(history, version),
    ]


def _retire(client: MlflowClient, order: Order, decision: Decision) -> None:
    """Write the reason on the version that a rollback leaves, if it is still there."""
    number = decision.came_from
    known = {
        str(one.version)
        for one in client.search_model_versions(f"name = '{order.name}'")
    }
    if number in known:
        text = f"{decision.time}, by {decision.who} (claimed): {decision.why}"
        client.set_model_version_tag(order.name, number, RETIRED_TAG, text)


def _tell_champion(name: str, decision: Decision) -> str:
    before = f"was version {decision.came_from}" if decision.came_from else "had none"
    return (
        f"{name}: the champion is version {decision.to}, {before}. Decision {decision.number} by "
        f"{escape(decision.who)} (claimed): {escape(decision.why)}"
    )


def _tell_unfinished(
    client: MlflowClient, name: str, history: History, decision: Decision
) -> list[str]:
    """Close the decisions that were cut short before this one, and report them."""
    lines = []
    for left in history.list_cut_short(CHAMPION):
        set_aside(client, name, left, decision)
        strayed = (
            " after it had moved the alias back" if history.has_strayed(left) else ""
        )
        lines.append(
            f"Decision {tell(left)} was cut short{strayed}, and is overtaken by this."
        )
    return lines


def _tell_retired(history: History, version: ModelVersion) -> list[str]:
    done = filter(history.was_carried_out, history.of_alias(CHAMPION))
    retired = list_retired(done).get(str(version.version))
    if retired is None:
        return []
    return [
        f"Version {version.version} was retired by decision {retired.number}: "
        f"{escape(retired.why)}"
    ]
