"""The decisions on a registered model's aliases, and what follows from their order.

Each decision is JSON in a tag of its own on the registered model, which nothing changes later. A
second tag says how it ended:

    decision.000012.1a2b3c4d   {"number": 12, "action": "promote", "from": "3", "to": "4", ...}
    outcome.000012.1a2b3c4d    done, or: overtaken by 13

The number orders them. The digits after it keep apart two that were written at the same time.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any

from training.errors import RegistryError
from training.registry.registration import CHAMPION
from training.text import escape

REGISTER, PROMOTE, ROLLBACK = "register", "promote", "rollback"
# A retraining moves no alias; in its place it has this word, and "to" is the champion of the time.
RETRAIN, RETRAINING = "retrain", "retraining"
ACTIONS = (REGISTER, PROMOTE, ROLLBACK, RETRAIN)
DONE, OVERTAKEN = "done", "overtaken by"
MAX_NUMBER = 999_999
# What the column of MLflow's databases holds; SQLite would take more.
MAX_TAG_CHARACTERS = 5000
DECISION_KEY = re.compile(r"decision\.(\d{6})\.([0-9a-f]{8})")
# MLflow's databases hold a version in 32 bits.
VERSION = re.compile(r"[1-9]\d{0,8}")


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision on an alias of a registered model.

    Parameters
    ----------
    number : int
        Its place in the history, [1, 999999].
    id : str
        Eight hexadecimal digits, which tell decisions of the same number apart.
    time : str
        When, in ISO 8601 with the time zone.
    who : str
        Who, as the caller's machine claims; nothing proves it.
    action : str
        "register", "promote", "rollback" or "retrain".
    alias : str
        The alias.
    came_from, to : str
        Versions that the alias pointed at before, empty for none, and points at now.
    why : str
        The reason.
    git_commit, flow_run : str
        Where version `to` comes from; may be empty.
    evidence : mapping of str to float
        Figures of the comparison that led to it.
    """

    number: int
    id: str
    time: str
    who: str
    action: str
    alias: str
    came_from: str
    to: str
    why: str
    git_commit: str = ""
    flow_run: str = ""
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def place(self) -> tuple[int, str]:
        """The key that orders decisions; no two are the same."""
        return self.number, self.id

    @property
    def tag(self) -> str:
        """The name of its tag."""
        return f"decision.{self.number:06}.{self.id}"

    @property
    def outcome_tag(self) -> str:
        """The name of the tag that says how it ended."""
        return f"outcome.{self.number:06}.{self.id}"


def write_decision(decision: Decision) -> str:
    """Return the text of a decision's tag; RegistryError if it is too long for MLflow."""
    values = asdict(decision)
    values["from"] = values.pop("came_from")
    text = json.dumps(values, ensure_ascii=False, default=dict)
    if len(text) > MAX_TAG_CHARACTERS:
        raise RegistryError(
            f"the decision has {len(text)} characters, and MLflow takes {MAX_TAG_CHARACTERS}; "
            "shorten --reason"
        )
    return text


def cut_reason(decision: Decision) -> Decision:
    """Return a decision whose reason is cut so far that MLflow's databases hold its tag."""
    why = decision.why
    while True:
        try:
            write_decision(decision)
            return decision
        except RegistryError:
            why = why[: len(why) * 9 // 10]
            decision = replace(decision, why=f"{why}...")


def parse_decision(tag: str, text: str) -> Decision | None:
    """Read a decision that anybody may have written; None if it is not one."""
    found = DECISION_KEY.fullmatch(tag)
    if not found or len(text) > MAX_TAG_CHARACTERS:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not set(values) >= _KEYS:
        return None
    decision = _make(values)
    if decision is None or decision.tag != tag:
        return None
    return decision


_TEXTS = ("id", "time", "who", "action", "alias", "to", "why", "git_commit", "flow_run")
_KEYS = {"number", "from", "evidence", *_TEXTS}


def _make(values: Mapping[str, Any]) -> Decision | None:
    texts = {name: values[name] for name in _TEXTS} | {"came_from": values["from"]}
    evidence, number = values["evidence"], values["number"]
    is_sound = (
        all(isinstance(text, str) for text in texts.values())
        and type(number) is int
        and texts["action"] in ACTIONS
        and VERSION.fullmatch(texts["to"])
        and (not texts["came_from"] or VERSION.fullmatch(texts["came_from"]))
        and isinstance(evidence, dict)
        and all(map(_is_figure, evidence.values()))
    )
    return Decision(number, evidence=evidence, **texts) if is_sound else None


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 2**63 and isfinite(value)


@dataclass(frozen=True, slots=True)
class History:
    """All that the tags of a registered model tell of its aliases.

    Parameters
    ----------
    name : str
        The registered model.
    decisions : tuple of Decision
        In their order.
    outcomes : mapping of str to str
        How they ended, by the names of these tags.
    aliases : mapping of str to str
        The version at which each alias points now.
    unreadable : tuple of str
        Names of tags that look like a decision's and are none.
    """

    name: str
    decisions: tuple[Decision, ...]
    outcomes: Mapping[str, str]
    aliases: Mapping[str, str]
    unreadable: tuple[str, ...] = ()

    def of_alias(self, alias: str) -> tuple[Decision, ...]:
        """Return the decisions on an alias."""
        return tuple(one for one in self.decisions if one.alias == alias)

    def after(self, decision: Decision) -> Decision | None:
        """Return the last decision on the same alias, None if this is the last."""
        last = self.of_alias(decision.alias)[-1]
        return last if last.place > decision.place else None

    def find_unfinished(self, alias: str) -> Decision | None:
        """Return the last decision on an alias if nothing says how it ended."""
        last = self.of_alias(alias)[-1:]
        return last[0] if last and last[0].outcome_tag not in self.outcomes else None

    def list_cut_short(self, alias: str) -> tuple[Decision, ...]:
        """Return the decisions that did not end, and that the alias did not follow for good."""
        return tuple(
            one
            for one in self.of_alias(alias)
            if one.outcome_tag not in self.outcomes and not self.was_carried_out(one)
        )

    def has_strayed(self, decision: Decision) -> bool:
        """Return whether the alias is at a decision that was cut short before the last one."""
        is_there = self.aliases.get(decision.alias) == decision.to
        return is_there and decision in self.list_cut_short(decision.alias)

    def next_number(self) -> int:
        """Return the number of the next decision; RegistryError if there is none left."""
        last = self.decisions[-1] if self.decisions else None
        if last and last.number >= MAX_NUMBER:
            raise RegistryError(
                f"the history of {self.name!r} is full: its tag {last.tag} has the last number "
                "that there is; remove the tag if a stranger wrote it"
            )
        return last.number + 1 if last else 1

    def was_carried_out(self, decision: Decision) -> bool:
        """Return whether the alias followed a decision, as far as the tags tell."""
        outcome = self.outcomes.get(decision.outcome_tag)
        if outcome is not None:
            return outcome == DONE
        later = [d for d in self.of_alias(decision.alias) if d.place > decision.place]
        now = later[0].came_from if later else self.aliases.get(decision.alias, "")
        return now == decision.to

    def list_champions(self) -> list[str]:
        """Return the versions that a rollback goes through, the champion of today last.

        A promotion adds a version, a rollback takes the versions off again that it went past. A
        version that only the alias tells of, because somebody moved it by hand, counts too.
        """
        stack: list[str] = []
        for decision in self.of_alias(CHAMPION):
            if decision.came_from and stack[-1:] != [decision.came_from]:
                stack.append(decision.came_from)
            if self.was_carried_out(decision):
                _follow(stack, decision)
        now = self.aliases.get(CHAMPION)
        return stack if now is None or stack[-1:] == [now] else [*stack, now]


def _follow(stack: list[str], decision: Decision) -> None:
    if decision.action == ROLLBACK and decision.to in stack:
        while stack[-1] != decision.to:
            stack.pop()
    elif stack[-1:] != [decision.to]:
        stack.append(decision.to)


def read_tags(
    name: str, tags: Mapping[str, str], aliases: Mapping[str, Any]
) -> History:
    """Read the history in the tags of a registered model.

    Parameters
    ----------
    name : str
        The registered model.
    tags, aliases : mapping
        As MLflow has them; anybody may have written them.

    Returns
    -------
    History
        The decisions that can be read, and the names of those that cannot.
    """
    keys = [key for key in tags if key.startswith("decision.")]
    found = {key: parse_decision(key, str(tags[key])) for key in keys}
    decisions = [one for one in found.values() if one is not None]
    known = {one.outcome_tag for one in decisions}
    return History(
        name,
        tuple(sorted(decisions, key=lambda one: one.place)),
        {key: str(text) for key, text in tags.items() if key in known},
        {str(alias): str(version) for alias, version in aliases.items()},
        tuple(sorted(key for key, one in found.items() if one is None)),
    )


def tell(decision: Decision) -> str:
    """Return a decision in a few words, on one line that no terminal takes for a command."""
    if decision.action == RETRAIN:
        return escape(
            f"{decision.number} (retrain, champion {decision.to}, by {decision.who})"
        )
    before = decision.came_from or "none"
    return escape(
        f"{decision.number} ({decision.action}, {decision.alias} {before} -> {decision.to}, by "
        f"{decision.who})"
    )


def list_retired(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """Return the last rollback that took the alias from a version, by the version."""
    return {one.came_from: one for one in decisions if one.action == ROLLBACK}
