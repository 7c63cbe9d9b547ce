"""Finds MLflow's store and checks that it answers; faults become one line without a password."""

import logging
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from posixpath import normpath
from typing import Any
from urllib.parse import unquote

import mlflow
import sqlalchemy
from mlflow import MlflowClient
from mlflow.environment_variables import (
    MLFLOW_ACTIVE_MODEL_ID,
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD,
    MLFLOW_EXPERIMENT_ID,
    MLFLOW_EXPERIMENT_NAME,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_RUN_ID,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
    MLFLOW_TRACKING_PASSWORD,
    MLFLOW_TRACKING_TOKEN,
)
from mlflow.exceptions import MlflowException

from prediction_common.secrets import find_secrets, redact
from training.errors import RegistryError, TrainingError

# Limits of the first contact. By its own defaults, MLflow tries a server for more than a minute,
# and waits 101 seconds for a database.
CONNECT_SECONDS = 5.0
FIRST_RETRIES = 2
REQUEST_SECONDS = 10
DATABASE_PORTS = {"mssql": 1433, "mysql": 3306, "postgresql": 5432}
# MLflow refuses some of these, its URIs end at others or read them as an alias, its downloads
# decode "%", and the quotes would end its queries.
NOT_IN_NAMES = "/:@'\"#?%;\\"
# What the columns of MLflow's databases hold; SQLite would take more.
MAX_NAME = 256
# Where programs that start others with MLflow say which run and experiment those should write to. A
# flow has a run of its own, and --experiment names the experiment.
AMBIENT: tuple[Any, ...] = (
    MLFLOW_RUN_ID,
    MLFLOW_EXPERIMENT_ID,
    MLFLOW_EXPERIMENT_NAME,
    MLFLOW_ACTIVE_MODEL_ID,
)
MAX_REASON = 300  # characters of MLflow's own message


@contextmanager
def registry_errors() -> Iterator[None]:
    """Turn errors of MLflow and of its database into a RegistryError of one line."""
    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        words = _hide_secrets(str(error)).strip()
        reason = (words.splitlines() or [type(error).__name__])[0][:MAX_REASON]
        raise RegistryError(
            f"MLflow at {show_tracking_uri()} (MLFLOW_TRACKING_URI): {reason}"
        ) from None


@contextmanager
def _unless_set(variable: Any, value: object) -> Iterator[None]:
    """Set one of MLflow's variables for a while, unless the user has set it."""
    if variable.is_set():
        yield
        return
    variable.set(value)
    try:
        yield
    finally:
        variable.unset()


@contextmanager
def own_run() -> Iterator[None]:
    """Ignore what the environment says about runs and experiments, inside the context."""
    given = [(one, one.get_raw()) for one in AMBIENT if one.is_set()]
    for variable, _ in given:
        variable.unset()
    try:
        yield
    finally:
        for variable in AMBIENT:
            # MLflow itself sets one of them when an experiment is chosen.
            variable.unset()
        for variable, value in given:
            variable.set(value)


def list_ignored() -> list[str]:
    """Return the names of the variables that are set and that `own_run` ignores."""
    return [variable.name for variable in AMBIENT if variable.is_set()]


@contextmanager
def writing() -> Iterator[None]:
    """Write to MLflow as the flow needs it: one run of its own, no progress bars, no detours.

    Errors of MLflow and of its database become a RegistryError of one line.
    """
    quiet_loggers()
    with ExitStack() as stack:
        stack.enter_context(registry_errors())
        stack.enter_context(own_run())
        stack.enter_context(through_the_server())
        stack.enter_context(_unless_set(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR, False))
        yield


@contextmanager
def operating() -> Iterator[None]:
    """Use a registry that exists, for somebody who waits at a terminal.

    It gives up early, creates no store, and is otherwise as `writing`.
    """
    with ExitStack() as stack:
        stack.enter_context(writing())
        for variable, value in (
            (MLFLOW_HTTP_REQUEST_MAX_RETRIES, FIRST_RETRIES),
            (MLFLOW_HTTP_REQUEST_TIMEOUT, REQUEST_SECONDS),
        ):
            stack.enter_context(_unless_set(variable, value))
        stack.enter_context(_unforeseen_errors())
        _check_file_exists()
        _check_database_answers()
        yield


@contextmanager
def _unforeseen_errors() -> Iterator[None]:
    """Turn what a strange answer of a registry leads to into an error of MLflow."""
    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError, TrainingError):
        # The last one says itself what is wrong, such as a page of metrics.
        raise
    except Exception as error:  # MLflow reads answers without a check
        words = f"its answer makes no sense ({type(error).__name__}: {error})"
        raise MlflowException(words) from None


def _check_file_exists() -> None:
    """Refuse a missing SQLite file: MLflow would create an empty one and report no model."""
    uri = str(mlflow.get_registry_uri())
    path = uri.removeprefix("sqlite:///")
    # MLflow escapes the path of its default, mlflow.db in the working folder.
    if path != uri and not any(Path(name).exists() for name in (path, unquote(path))):
        raise RegistryError(
            f"there is no registry at {uri}; set MLFLOW_TRACKING_URI or train a model first"
        )


def through_the_server() -> AbstractContextManager[None]:
    """Load files through MLflow's server, unless the user has set otherwise.

    A server that keeps artifacts in S3 would send its clients there. If only the server reaches
    that address, they try for minutes.

    Returns
    -------
    context manager
        The setting holds inside it.
    """
    return _unless_set(MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD, False)


def show_tracking_uri() -> str:
    """Return the address of MLflow without a user's name, password or key."""
    return _hide_secrets(str(mlflow.get_tracking_uri()))


def _hide_secrets(text: str) -> str:
    """Return `text` without the passwords and tokens of MLflow."""
    settings = {"uri": str(mlflow.get_tracking_uri())}
    for variable in (MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN):
        value = variable.get()  # type: ignore[no-untyped-call]
        settings[variable.name] = value or ""
    return redact(text, find_secrets(settings))


def _check_database_answers() -> None:
    """Raise OSError if nothing listens at the address of the store's database."""
    try:
        url = sqlalchemy.make_url(str(mlflow.get_tracking_uri()))
    except sqlalchemy.exc.ArgumentError:
        return
    default = DATABASE_PORTS.get(url.get_backend_name())
    if url.host and default:
        address = (url.host, url.port or default)
        socket.create_connection(address, timeout=CONNECT_SECONDS).close()


def prepare_store(experiment: str, model_name: str) -> str:
    """Create the store and the experiment, unless they exist.

    A flow calls it once, before its parallel steps: two processes that create the same SQLite store
    at once collide.

    Parameters
    ----------
    experiment : str
        MLflow experiment of the run.
    model_name : str
        Registered model of the run, whose name is checked.

    Returns
    -------
    str
        A line for the user: the address of the store, without secrets, the experiment, and the
        variables that are ignored.

    Raises
    ------
    RegistryError
        If MLflow is not reached, or would refuse a name after the training, or its URIs cannot say
        the model's name.
    """
    check_model_name(model_name)
    _check_experiment(experiment)
    quiet_loggers()
    retries = MLFLOW_HTTP_REQUEST_MAX_RETRIES
    ignored = list_ignored()
    with registry_errors(), own_run(), _unless_set(retries, FIRST_RETRIES):
        _check_database_answers()
        mlflow.set_experiment(experiment)
        # The registry may be at another address than the runs, MLFLOW_REGISTRY_URI.
        MlflowClient().search_registered_models(f"name = '{model_name}'", max_results=1)
    line = f"MLflow: {show_tracking_uri()}, experiment {experiment}"
    if not ignored:
        return line
    return f"{line}. The run is one of its own: {', '.join(ignored)} is ignored"


def check_model_name(model_name: str) -> None:
    """Raise RegistryError if MLflow would refuse a name, or its URIs cannot say it."""
    is_path = normpath(model_name) != model_name or model_name in (".", "..")
    is_shown = model_name.isprintable() and model_name == model_name.strip()
    if is_path or not model_name or not is_shown or set(model_name) & set(NOT_IN_NAMES):
        raise RegistryError(
            f"--model_name {model_name!r} is not allowed: a name is neither empty nor a path, has "
            "no space at its ends and no character that does not show, and has none of "
            f"{' '.join(NOT_IN_NAMES)}"
        )
    _check_length("--model_name", model_name)


def _check_length(flag: str, name: str) -> None:
    if len(name) > MAX_NAME:
        raise RegistryError(
            f"{flag} has {len(name)} characters, and MLflow takes {MAX_NAME}; shorten it"
        )


def _check_experiment(experiment: str) -> None:
    if not experiment.strip():
        raise RegistryError(
            f"--experiment {experiment!r} is not allowed: MLflow needs a name"
        )
    _check_length("--experiment", experiment)


def _has_no_traceback(record: logging.LogRecord) -> bool:
    return not record.exc_info


def quiet_loggers() -> None:
    """Let MLflow and its libraries print warnings only."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It logs each error that it raises with a traceback, and the caller tells the error anyway.
    logging.getLogger("mlflow.store.db.utils").addFilter(_has_no_traceback)
    # MLflow would print two lines of links for every run.
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)  # type: ignore[no-untyped-call]
