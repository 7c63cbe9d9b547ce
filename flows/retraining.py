"""The command `python flows/registry.py retrain`: trains again if a signal says so.

pages, versions, outcomes ──▶ finding ──▶ claim in the history ──▶ flow or event ──▶ outcome
"""

import argparse
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from training.errors import RegistryError, SignalError
from training.parameters import DEFAULTS
from training.registry.registration import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from training.registry.decisions import Decision
    from training.retraining.served import Served
    from training.retraining.signals import Finding

COMMAND = "retrain"
SIGNALS = ("age", "drift", "metric")
WAYS = ("here", "argo", "event")
MAX_SERVERS = 100


def split(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Divide a command line at "--": what is after it goes to the flow; None if there is none."""
    if "--" not in arguments:
        return list(arguments), None
    place = list(arguments).index("--")
    return list(arguments[:place]), list(arguments[place + 1 :])


def _parse_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def add_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the command to those of registry.py."""
    words = "train again if a signal says so; else say why not"
    parser = commands.add_parser(
        COMMAND,
        help=words,
        description=f"{words[0].upper()}{words[1:]}. The exit code is 0 if the flow has run, if it "
        "was handed to Argo, and if there was nothing to do; 1 after an error, and if the flow "
        "fails. What follows -- is for flows/train_flow.py: its options, the word run, and the "
        "parameters.",
        usage="%(prog)s --if SIGNAL [options] [-- [FLOW OPTIONS] run [PARAMETERS]]",
        allow_abbrev=False,
    )
    parser.add_argument("--if", dest="signal", required=True, choices=SIGNALS)
    _add_pages(parser.add_argument)
    _add_limits(parser.add_argument)
    _add_ways(parser.add_argument)


def _add_pages(add: Callable[..., object]) -> None:
    add("--model_name", default=DEFAULTS.model_name, metavar="NAME")
    add(
        "--metrics",
        action="append",
        default=[],
        metavar="URL",
        help="page of metrics of a server, for each server once; counts add up",
    )
    add("--token-file", default="", metavar="FILE", help="token that sees the metrics")
    add("--ca-file", default="", metavar="FILE", help="authorities of https://")


def _add_limits(add: Callable[..., object]) -> None:
    for flag, value, help_text in (
        ("--max-age-days", 30, "age: oldest version that answers"),
        ("--max-psi", 0.2, "drift: largest PSI of a feature"),
        ("--worse-by", 0.05, "metric: loss that is borne, in its units"),
        ("--min-rows", 1000, "drift and metric: fewer rows say nothing"),
        (
            "--window-minutes",
            0,
            "look twice, so far apart; 0: since the server's start",
        ),
        ("--pause-hours", 24, "least time between two retrainings"),
        ("--longest-hours", 24, "a retraining that began before is taken for dead"),
    ):
        add(
            flag,
            type=_parse_number,
            default=float(value),
            metavar="N",
            help=f"{help_text} (default: {value})",
        )


def _add_ways(add: Callable[..., object]) -> None:
    add("--metric", default="accuracy", metavar="NAME", help="default: %(default)s")
    add(
        "--outcomes",
        default="",
        metavar="FILE",
        help="Parquet file of live metrics by version; without it, accuracy and roc_auc are "
        "the expected ones of --metrics",
    )
    add("--via", choices=WAYS, default="here", help="default: %(default)s")
    add("--event", default="retrain", metavar="NAME", help="event of --via event")
    add("--dry-run", action="store_true", help="say what would be done")


def run(
    given: argparse.Namespace, flow: Sequence[str] | None, environ: Mapping[str, str]
) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    given : argparse.Namespace
        Options of the command.
    flow : sequence of str or None
        What the command line has for the flow.
    environ : mapping of str to str
        Environment of the flow.
    """
    from mlflow import MlflowClient

    from starting import check_flow, start
    from training.registry.store import check_model_name, operating

    check_model_name(given.model_name)
    command = check_flow(given.via, given.model_name, flow)
    with operating():
        outcome = _decide(MlflowClient(), given)
    if isinstance(outcome, str):
        print(outcome)
        return 0
    told = f"retrain {outcome.number}: {outcome.why}"
    print(
        f"{given.model_name} is trained again, decision {outcome.number}: {outcome.why}"
    )
    ended = "cut short"
    code = 1
    with _patient():
        try:
            code, ended = start(given.via, command, told, given.event, environ)
        finally:
            ended = _write_end(given.model_name, outcome, ended, told)
    print(f"{given.model_name}: {ended}")
    return code


@contextmanager
def _patient() -> Iterator[None]:
    """Lift the limits of time and of files that hold for a person at a terminal; catch SIGTERM."""
    from resource import RLIMIT_FSIZE, getrlimit, setrlimit

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    left = signal.alarm(0)
    before = signal.signal(signal.SIGTERM, interrupt)
    soft, hard = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (hard, hard))
    try:
        yield
    finally:
        setrlimit(RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGTERM, before)
        signal.alarm(left)


def _decide(client: "MlflowClient", given: argparse.Namespace) -> "Decision | str":
    """Return the decision to train, or a line that says why there is none."""
    from training.registry.history import find_clerk, read_history
    from training.retraining.claims import Limits, claim, find_obstacle

    limits = Limits(
        timedelta(hours=given.longest_hours), timedelta(hours=given.pause_hours)
    )
    clerk = find_clerk()
    finding = _find(client, given)
    if not finding.is_due:
        return f"{given.model_name} is not trained again: {finding.words}"
    why = f"{given.signal}: {finding.words}"
    if given.dry_run:
        history = read_history(client, given.model_name)
        obstacle = find_obstacle(history, clerk.now(), limits)
        return _tell_dry(given.model_name, why, obstacle)
    claimed = claim(
        client, given.model_name, clerk, limits, why, finding.figures, time.sleep
    )
    if isinstance(claimed, str):
        return f"{given.model_name} is not trained again: {claimed}"
    return claimed


def _tell_dry(name: str, why: str, obstacle: str) -> str:
    if obstacle:
        return f"{name} would not be trained again: {obstacle}"
    return f"{name} would be trained again: {why}"


def _find(client: "MlflowClient", given: argparse.Namespace) -> "Finding":
    from training.retraining.signals import judge_age, judge_drift

    served = _look(given)
    if given.signal == "drift":
        if served is None:
            raise SignalError("--if drift needs --metrics, the page of a server")
        return judge_drift(served, given.max_psi, int(given.min_rows))
    version = served.version if served else _find_champion(client, given.model_name)
    if given.signal == "metric":
        return _find_metric(client, given, served, version)
    from training.registry.versions import find_version

    created = find_version(client, given.model_name, version).creation_timestamp
    return judge_age(
        version,
        datetime.fromtimestamp(created / 1000, UTC),
        datetime.now(UTC),
        given.max_age_days,
    )


def _find_champion(client: "MlflowClient", name: str) -> str:
    from training.registry.history import read_history

    champion = read_history(client, name).aliases.get(CHAMPION)
    if champion is None:
        raise SignalError(f"{name} has no champion; train the first version yourself")
    return champion


def _look(given: argparse.Namespace) -> "Served | None":
    """Return what all servers together have counted; None without --metrics."""
    from training.retraining.pages import Access, fetch_page, read_token
    from training.retraining.served import add_up, read_served, subtract

    urls = list(dict.fromkeys(given.metrics))
    if len(urls) > MAX_SERVERS:
        raise SignalError(
            f"--metrics is given {len(urls)} times, {MAX_SERVERS} at most"
        )
    if not urls:
        return None
    token = read_token(given.token_file) if given.token_file else ""
    access = Access(token, given.ca_file)

    def look() -> list["Served"]:
        return [read_served(fetch_page(url, access), given.model_name) for url in urls]

    servers = look()
    if given.window_minutes:
        left = signal.alarm(0)
        time.sleep(given.window_minutes * 60)
        signal.alarm(left)
        servers = [subtract(*pair) for pair in zip(servers, look(), strict=True)]
    return add_up(servers)


def _find_metric(
    client: "MlflowClient",
    given: argparse.Namespace,
    served: "Served | None",
    version: str,
) -> "Finding":
    from training.registry.versions import find_version
    from training.retraining.expected import EXPECTED_METRICS
    from training.retraining.outcomes import read_live_metric
    from training.retraining.signals import Measured, judge_metric

    if given.outcomes:
        live, rows = read_live_metric(
            given.outcomes, given.model_name, version, given.metric
        )
        source = "live"
    elif served is None or given.metric not in EXPECTED_METRICS:
        raise SignalError(
            f"--if metric needs --outcomes for --metric {given.metric!r}; only "
            f"{' and '.join(EXPECTED_METRICS)} can be expected from --metrics"
        )
    else:
        (live, rows), source = EXPECTED_METRICS[given.metric](served), "expected"
    tag = f"holdout_{given.metric}"
    text = find_version(client, given.model_name, version).tags.get(tag, "")
    try:
        at_training = float(text)
    except ValueError:
        at_training = math.nan
    if not math.isfinite(at_training):
        raise SignalError(
            f"{given.model_name} version {version} has no figure in its tag {tag!r} to compare with"
        )
    measured = Measured(given.metric, live, rows, at_training, source)
    return judge_metric(measured, given.worse_by, int(given.min_rows))


def _write_end(name: str, decision: "Decision", ended: str, told: str) -> str:
    """Write how a retraining ended; if the registry is gone by now, say both."""
    from mlflow import MlflowClient

    from training.registry.store import operating

    try:
        with operating():
            return _finish(MlflowClient(), name, decision, ended, told)
    except RegistryError as error:
        raise RegistryError(
            f"{name}: {ended}, but decision {decision.number} of the history does not say so: "
            f"{error}"
        ) from None


def _finish(
    client: "MlflowClient", name: str, decision: "Decision", ended: str, told: str
) -> str:
    """Write how a retraining ended, with the version that it made; return it."""
    from training.registry.run_log import REASON_TAG
    from training.retraining.claims import finish

    made = [
        str(version.version)
        for version in client.search_model_versions(f"name = '{name}'")
        if version.tags.get(REASON_TAG) == told
    ]
    if made:
        ended = f"{ended}, version {made[0]}"
    finish(client, name, decision, ended)
    return ended
