"""What a deployment on Argo gets: what starts the flow by itself, and what reports its death."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from training.text import shorten

COMMAND = "argo-workflows"
KEYS = {"cron", "timezone", "event"}
MAX_DEAD, MAX_MESSAGE = 20, 500
CRON_FIELD = re.compile(r"[\w*/,?-]+", re.ASCII)
EVENT = re.compile(r"[A-Za-z0-9_.-]+")
ZONE = re.compile(r"[\w+-]+(/[\w+-]+)*", re.ASCII)


class LaunchError(Exception):
    """A mistake in launch.toml."""


def list_decorators(launch: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the decorators of a deployment, by name, with their arguments.

    Parameters
    ----------
    launch : mapping
        Content of launch.toml.

    Returns
    -------
    list of (str, dict)
        Always the hook that reports a death; a schedule and an event if the file names them.

    Raises
    ------
    LaunchError
        If a key is unknown or a value is none that Argo takes.
    """
    cron, zone, event = _check(launch)
    decorators: list[tuple[str, dict[str, Any]]] = [
        ("exit_hook", {"on_error": ["tell_what_died"]})
    ]
    if cron:
        decorators.append(("schedule", {"cron": cron, "timezone": zone}))
    if event:
        # No parameter comes with it. Metaflow 2.19.39 writes parameters into a file that a shell
        # of the pod runs, so a payload with $(...) would run there.
        decorators.append(("trigger", {"event": event}))
    return decorators


def _check(launch: Mapping[str, Any]) -> tuple[str, str, str]:
    unknown = sorted(set(launch) - KEYS)
    if unknown:
        raise LaunchError(
            f"--config launch has the key {unknown[0]!r}; it knows {', '.join(sorted(KEYS))}"
        )
    cron, zone, event = (launch.get(key, "") for key in ("cron", "timezone", "event"))
    fields = cron.split() if isinstance(cron, str) else [""]
    if fields and (len(fields) != 5 or not all(map(CRON_FIELD.fullmatch, fields))):
        raise LaunchError(
            f"--config launch: cron = {cron!r} is not a schedule; write five fields of cron, such "
            'as "0 3 * * 1", or ""'
        )
    for key, value, pattern in (("timezone", zone, ZONE), ("event", event, EVENT)):
        if not isinstance(value, str) or (value and not pattern.fullmatch(value)):
            raise LaunchError(
                f"--config launch: {key} = {value!r} is no name; letters, digits, '_', '.' and "
                "'-' are allowed"
            )
    return " ".join(fields), zone or "UTC", event


def is_deployment(arguments: Sequence[str]) -> bool:
    """Return whether a command line is one that deploys the flow on Argo."""
    return COMMAND in arguments


def report_death(run: Any, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the hook that runs after a run on Argo has failed.

    Parameters
    ----------
    run : metaflow.Run or None
        The run; None if no metadata service knows it.
    environ : mapping of str to str
        Environment of the hook's pod.

    Yields
    ------
    str
        One line, which no terminal takes for a command.
    """
    name, namespace = (
        shorten(environ.get(f"METAFLOW_WORKFLOW_{key}", "-"), MAX_MESSAGE)
        for key in ("NAME", "NAMESPACE")
    )
    yield f"The run {name} has failed."
    dead = list(islice(_find_dead(run), MAX_DEAD)) if run is not None else []
    yield from dead
    if not dead:
        yield (
            "No metadata service knows which step died; Argo does: kubectl --namespace "
            f"{namespace} get workflow {name} --output yaml"
        )


def _find_dead(run: Any) -> Iterator[str]:
    for step in run:
        for task in step:
            if not task.successful:
                message = str(task.exception or "it left no exception")
                yield f"{shorten(task.pathspec, MAX_MESSAGE)} died: {shorten(message, MAX_MESSAGE)}"
