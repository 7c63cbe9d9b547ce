"""Starts the flow: here as a process of its own, as a workflow of Argo, or by an event."""

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.errors import SignalError
from training.text import first_line, shorten

FLOW = Path(__file__).resolve().parent / "train_flow.py"
RUN, TRIGGER = "run", ("argo-workflows", "trigger")
EVENT_URL = "METAFLOW_ARGO_EVENTS_WEBHOOK_URL"
EVENT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
EVENT_SECONDS = 30.0
END_SECONDS = 30.0
# A shell of Argo's pod runs the text of a parameter, and features name themselves.
NOT_FOR_ARGO = re.compile(r"[^A-Za-z0-9 .,:;()_+-]")


def check_flow(via: str, name: str, flow: Sequence[str] | None) -> list[str]:
    """Return the flow's command line, without the reason.

    Parameters
    ----------
    via : str
        "here", "argo" or "event".
    name : str
        The registered model.
    flow : sequence of str or None
        What was given after "--".

    Returns
    -------
    list of str
        What follows `train_flow.py`.

    Raises
    ------
    SignalError
        If it cannot be a run of this model.
    """
    if via != "here":
        if flow and TRIGGER[0] in flow or flow and RUN in flow:
            raise SignalError(
                f"--via {via} starts what is deployed; give options of the flow after --, such as "
                "--production, and no command"
            )
        return [*(flow or ()), *TRIGGER]
    command = [RUN] if flow is None else list(flow)
    if RUN not in command:
        raise SignalError(
            "after --, give the word run, such as: -- run --data wine.csv"
        )
    for flag in ("--model_name", "--reason"):
        if any(word == flag or word.startswith(f"{flag}=") for word in command):
            raise SignalError(f"{flag} comes from this command; leave it out after --")
    if "--branch" in command or any(w.startswith("--branch=") for w in command):
        raise SignalError(
            "a run of a --branch is no retraining: it registers under another name"
        )
    return [*command, f"--model_name={name}"]


def start(
    via: str, command: Sequence[str], why: str, event: str, environ: Mapping[str, str]
) -> tuple[int, str]:
    """Start the flow; wait for its end if it runs here.

    Parameters
    ----------
    via, command
        As `check_flow` takes and returns them.
    why : str
        The reason, which the version keeps.
    event : str
        Name of the event.
    environ : mapping of str to str
        The environment of the flow.

    Returns
    -------
    code : int
        Exit code of this program.
    outcome : str
        What the history keeps.
    """
    if via == "event":
        return _publish(event, why, environ)
    reason = why if via == "here" else NOT_FOR_ARGO.sub("?", why)
    program = [sys.executable, str(FLOW), *command, f"--reason={reason}"]
    process = subprocess.Popen(program, env=dict(environ))
    try:
        code = process.wait()
    finally:
        _end(process)
    if code:
        return 1, f"the flow failed with exit code {code}"
    return 0, "done" if via == "here" else "handed to Argo"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a flow that still runs, in the orderly way first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _publish(event: str, why: str, environ: Mapping[str, str]) -> tuple[int, str]:
    """Publish an event in the form of Metaflow's ArgoEvent, without its retries for minutes."""
    url = environ.get(EVENT_URL, "")
    if not url.startswith(("http://", "https://")) or not EVENT_NAME.fullmatch(event):
        return 1, f"no event: {EVENT_URL} is no URL, or --event {event!r} is no name"
    payload = {"name": event, "reason": why, "generated-by-metaflow": True}
    body = json.dumps({"name": event, "payload": payload}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=EVENT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        return 1, f"the event was not taken: {shorten(first_line(error), 200)}"
    return 0, f"published the event {event}"
