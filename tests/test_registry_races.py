"""Whoever decides at once, dies or comes late: the alias follows the last decision in the end."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from training.errors import RegistryError
from training.registry import moves
from training.registry.history import Clerk, read_history
from training.registry.moves import Order, promote, rollback

NAME = "wine"
# What an actor does next, by its number; 10 more, and it dies before that.
SCHEDULES = st.lists(st.sampled_from([0, 1, 2, 0, 1, 2, 10, 11]), max_size=60)
ACTIONS = st.lists(
    st.sampled_from(["promote 2", "promote 3", "promote 4", "rollback"]),
    min_size=3,
    max_size=3,
)


class Registry:
    """The part of MLflow's client that decisions use, in memory; each call is atomic."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.aliases: dict[str, str] = {"champion": "1"}
        self.before: Callable[[], None] = lambda: None

    def get_registered_model(self, name: str) -> Any:
        self.before()
        return SimpleNamespace(tags=dict(self.tags), aliases=dict(self.aliases))

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self.before()
        self.tags[key] = value

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.before()
        self.aliases[alias] = version

    def get_model_version(self, name: str, number: str) -> Any:
        return SimpleNamespace(name=name, version=number, tags={})

    def search_model_versions(self, query: str) -> list[Any]:
        return []


class Actor:
    """A call in a thread of its own, which waits for its turn before each use of the registry."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.is_over = False
        self._is_killed = False
        self._may_go, self._has_stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, args=(run,), daemon=True)
        self._thread.start()
        self._has_stopped.acquire()

    def _live(self, run: Callable[[], object]) -> None:
        try:
            self.wait()
            run()
        except (KeyboardInterrupt, RegistryError):
            pass
        finally:
            self.is_over = True
            self._has_stopped.release()

    def wait(self) -> None:
        """Wait for the next turn, in the actor's own thread."""
        self._has_stopped.release()
        self._may_go.acquire()
        if self._is_killed:
            raise KeyboardInterrupt

    def go(self, *, killed: bool = False) -> None:
        """Let the actor go on to its next use of the registry, or die."""
        if self.is_over:
            return
        self._is_killed = killed
        self._may_go.release()
        self._has_stopped.acquire()

    def is_here(self) -> bool:
        return threading.current_thread() is self._thread


@pytest.fixture(autouse=True)
def servable() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moves, "check_servable", lambda version: None)
        yield


def start(registry: Registry, action: str) -> Actor:
    client = cast(MlflowClient, registry)
    clerk = Clerk(action, lambda: datetime(2026, 1, 2, tzinfo=UTC))
    order = Order(NAME, action, clerk)
    if action == "rollback":
        return Actor(lambda: rollback(client, order, None))
    return Actor(lambda: promote(client, order, action.split()[1]))


# The first call dies after it has moved the alias back from the version of the second.
MOVED_BACK = [0] * 4 + [1] * 8 + [0, 10]


@given(actions=ACTIONS, schedule=SCHEDULES)
@example(actions=["promote 2", "promote 3", "rollback"], schedule=MOVED_BACK)
@settings(max_examples=300)
def test_the_alias_follows_the_last_decision_in_the_end(
    actions: list[str], schedule: list[int]
) -> None:
    registry, client = Registry(), None
    actors = [start(registry, action) for action in actions]
    registry.before = lambda: [a for a in actors if a.is_here()][0].wait()
    for turn in schedule:
        actors[turn % 10].go(killed=turn >= 10)
    for actor in actors:
        while not actor.is_over:
            actor.go()
    registry.before = lambda: None

    client = cast(MlflowClient, registry)
    history = read_history(client, NAME)
    if not history.decisions:
        return
    last = history.decisions[-1]
    is_noted = last.outcome_tag in history.outcomes
    if is_noted and registry.aliases["champion"] != last.to:
        assert any(map(history.has_strayed, history.decisions))
        return
    if not is_noted:
        order = Order(
            NAME, "again", Clerk("x", lambda: datetime(2026, 1, 2, tzinfo=UTC))
        )
        finish(client, order, last.action, last.to)
    assert registry.aliases["champion"] == last.to
    outcomes = read_history(client, NAME).outcomes
    assert outcomes[last.outcome_tag] == "done"
    assert len(read_history(client, NAME).decisions) == len(history.decisions)


def finish(client: MlflowClient, order: Order, action: str, to: str) -> None:
    """Make the same call again, as whoever sees that it was cut short."""
    if action == "rollback":
        rollback(client, order, to)
    else:
        promote(client, order, to)


def test_an_alias_that_was_moved_back_is_reported() -> None:
    registry = Registry()
    actors = [start(registry, action) for action in ("promote 2", "promote 3")]
    registry.before = lambda: [a for a in actors if a.is_here()][0].wait()
    for turn in MOVED_BACK:
        actors[turn % 10].go(killed=turn >= 10)
    registry.before = lambda: None
    client = cast(MlflowClient, registry)
    history = read_history(client, NAME)
    assert registry.aliases["champion"] == "2"
    assert [history.has_strayed(one) for one in history.decisions] == [True, False]

    order = Order(NAME, "again", Clerk("x", lambda: datetime(2026, 1, 2, tzinfo=UTC)))
    lines = promote(client, order, "3")

    assert "was version 2" in lines[0]
    assert (
        "was cut short after it had moved the alias back, and is overtaken" in lines[1]
    )
    assert not any(map(read_history(client, NAME).has_strayed, history.decisions))
