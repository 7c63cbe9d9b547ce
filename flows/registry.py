"""Promote, roll back, compare and look up versions: `python flows/registry.py --help`.

MLflow is at MLFLOW_TRACKING_URI, as for the flow.
"""

import argparse
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import retraining
from training.errors import TrainingError
from training.parameters import DEFAULTS
from training.registry.registration import CHAMPION
from training.text import escape, escape_unshowable

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from training.registry.decisions import Decision, History
    from training.registry.moves import Order

INTERRUPTED = 130  # as shells report Ctrl-C
LONGEST_SECONDS, GRACE_SECONDS = 300, 10
# No artifact that servers take is so large; a local mlflow.db may grow for long.
MAX_FILE_BYTES = 4 * 2**30
Lines = Iterable[str]


def _parse_version(text: str) -> str:
    from training.registry.decisions import VERSION

    if VERSION.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not a version's number, such as 3")


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python flows/registry.py",
        description="Decide which version of a registered model is champion, and look decisions "
        "up. MLflow is at MLFLOW_TRACKING_URI.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = _Adder(commands)
    promote = add("promote", "make a version champion", _promote)
    promote.add_argument("version", type=_parse_version, metavar="VERSION")
    _add_reason(promote)
    rollback = add("rollback", "make an earlier version champion again", _rollback)
    rollback.add_argument(
        "--to",
        type=_parse_version,
        metavar="VERSION",
        help="the version (default: the champion before this one, by the history)",
    )
    _add_reason(rollback)
    add("history", "list all decisions: who, when, from, to and why", _history)
    retraining.add_parser(commands)
    compare = add("compare", "put the metrics of two versions side by side", _compare)
    for name in ("left", "right"):
        compare.add_argument(name, type=_parse_version, metavar="VERSION")
    compare.add_argument(
        "--shadow",
        action="append",
        default=[],
        metavar="URL",
        help="page of metrics of a server whose shadow is the second version, for each server "
        "once; counts add up",
    )
    compare.add_argument("--token-file", default="", metavar="FILE")
    compare.add_argument("--ca-file", default="", metavar="FILE")
    return parser


class _Adder:
    """Adds commands that share --model_name."""

    def __init__(
        self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]"
    ) -> None:
        self._commands = commands

    def __call__(
        self,
        name: str,
        words: str,
        run: Callable[["MlflowClient", argparse.Namespace], Lines],
    ) -> argparse.ArgumentParser:
        parser = self._commands.add_parser(
            name, help=words, description=words, allow_abbrev=False
        )
        parser.add_argument(
            "--model_name",
            default=DEFAULTS.model_name,
            metavar="NAME",
            help="registered model (default: %(default)s)",
        )
        parser.set_defaults(run=run)
        return parser


def _add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reason", required=True, metavar="TEXT", help="why; the history keeps it"
    )


def _promote(client: "MlflowClient", given: argparse.Namespace) -> Lines:
    from training.registry.moves import promote

    return [*promote(client, _order(given), given.version), _tell_servers()]


def _rollback(client: "MlflowClient", given: argparse.Namespace) -> Lines:
    from training.registry.moves import rollback

    return [*rollback(client, _order(given), given.to), _tell_servers()]


def _order(given: argparse.Namespace) -> "Order":
    from training.reasons import check_reason
    from training.registry.history import find_clerk
    from training.registry.moves import Order

    return Order(given.model_name, check_reason(given.reason), find_clerk())


def _tell_servers() -> str:
    return f"Servers that follow @{CHAMPION} load it after their next look at the registry."


def _history(client: "MlflowClient", given: argparse.Namespace) -> Lines:
    from training.registry.history import read_history

    history = read_history(client, given.model_name)
    for decision in history.decisions:
        yield from _tell_decision(history, decision)
    if not history.decisions:
        yield f"No decision on {given.model_name} is written down."
    yield from (
        f"The tag {escape(tag)} looks like a decision and cannot be read."
        for tag in history.unreadable
    )
    aliases = sorted(history.aliases.items(), key=lambda one: (one[0] != CHAMPION, one))
    told = ", ".join(f"{escape(name)} is version {number}" for name, number in aliases)
    yield f"Now: {told or 'no alias'}."


def _tell_decision(history: "History", decision: "Decision") -> Lines:
    from training.registry.decisions import tell

    yield f"{escape(decision.time)}  {tell(decision)}, claimed  {_tell_end(history, decision)}"
    yield f"    why: {escape(decision.why)}"
    git, run = escape(decision.git_commit) or "-", escape(decision.flow_run) or "-"
    yield f"    git {git}, flow run {run}"


def _tell_end(history: "History", decision: "Decision") -> str:
    outcome = history.outcomes.get(decision.outcome_tag)
    if outcome is not None:
        return escape(outcome[:100])
    if decision.action == "retrain":
        return "runs, or was cut short"
    if history.was_carried_out(decision):
        return "done, but cut short before it said so"
    if history.has_strayed(decision):
        return "cut short after it had moved the alias back"
    return "cut short before the alias moved"


def _compare(client: "MlflowClient", given: argparse.Namespace) -> Lines:
    from training.registry.history import read_history
    from training.registry.side_by_side import (
        compare_metrics,
        open_side,
        tell_decisions,
        tell_rows,
    )
    from training.registry.versions import find_version

    history = read_history(client, given.model_name)
    left, right = (
        open_side(client, find_version(client, given.model_name, number))
        for number in (given.left, given.right)
    )
    yield from compare_metrics(left, right)
    yield tell_rows(left, right)
    yield from tell_decisions(history, left, right)
    if given.shadow:
        yield _tell_shadow(given)


def _tell_shadow(given: argparse.Namespace) -> str:
    from training.retraining.pages import Access, fetch_page, read_token
    from training.retraining.shadows import tell_shadow

    token = read_token(given.token_file) if given.token_file else ""
    access = Access(token, given.ca_file)
    pages = [fetch_page(url, access) for url in given.shadow]
    return tell_shadow(pages, given.model_name, given.right)


def _run(given: argparse.Namespace) -> None:
    from mlflow import MlflowClient

    from training.registry.store import check_model_name, operating

    check_model_name(given.model_name)
    with operating():
        for line in given.run(MlflowClient(), given):
            print(line)


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    escape_unshowable((sys.stdout, sys.stderr))
    mine, flow = retraining.split(arguments)
    given = _build_parser().parse_args(mine)
    try:
        if given.command == retraining.COMMAND:
            # As it is now: MLflow's settings for somebody who waits are not for the flow.
            return retraining.run(given, flow, dict(os.environ))
        if flow is not None:
            raise TrainingError(f"{given.command} takes nothing after --")
        _run(given)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "error: interrupted; look at the history: a call that was cut short is finished by "
            "the same call",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 0


def _limit_time(seconds: int) -> None:
    """Let MLflow's answer take no longer than this; a registry may answer a byte a second."""

    def give_up(signal_number: int, frame: FrameType | None) -> None:
        # The threads of a download may go on; then nothing but the end of the process ends them.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GRACE_SECONDS)
        raise TimeoutError(f"it has not answered within {seconds} seconds")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)


def run(arguments: Sequence[str], longest_seconds: int = LONGEST_SECONDS) -> NoReturn:
    """Run the program in a process of its own, under limits of time and of files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft == resource.RLIM_INFINITY or soft > MAX_FILE_BYTES:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, hard))
    _limit_time(longest_seconds)
    try:
        code = main(arguments)
    except SystemExit as end:  # raised by the parser
        code = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    # `sys.exit` would wait for the threads of a download that was given up.
    os._exit(code)


if __name__ == "__main__":
    run(sys.argv[1:])
