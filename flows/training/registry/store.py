"""Where MLflow is, and whether it answers: told in one line, soon, and without the password."""

import logging
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from posixpath import normpath
from typing import Any

import mlflow
import sqlalchemy
from mlflow.environment_variables import (
    MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
    MLFLOW_TRACKING_PASSWORD,
    MLFLOW_TRACKING_TOKEN,
)
from mlflow.exceptions import MlflowException

from training.errors import RegistryError
from training.secrets import find_secrets, redact

# How long the first contact may take; by its own defaults, MLflow tries a server for more than a
# minute, and a database for 101 seconds of waiting alone.
CONNECT_SECONDS = 5.0
FIRST_RETRIES = 2
DATABASE_PORTS = {"mssql": 1433, "mysql": 3306, "postgresql": 5432}
# What MLflow refuses, what its URIs read as the start of an alias, and what would end its queries.
NOT_IN_NAMES = "/:@'\""
MAX_REASON = 300  # characters of somebody else's words


@contextmanager
def registry_errors() -> Iterator[None]:
    """Turn what MLflow and its database raise into one line."""
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
    """Give one of MLflow's variables a value for a while, unless the user has set it."""
    if variable.is_set():
        yield
        return
    variable.set(value)
    try:
        yield
    finally:
        variable.unset()


def through_the_server() -> AbstractContextManager[None]:
    """Let files come through MLflow's server, unless the user has set otherwise.

    A server that keeps artifacts in S3 would send its clients there, by an address that only it may
    reach; they try for minutes.
    """
    return _unless_set(MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD, False)


def show_tracking_uri() -> str:
    """Return where MLflow is, without a user's name, password or key."""
    return _hide_secrets(str(mlflow.get_tracking_uri()))


def _hide_secrets(text: str) -> str:
    """Return `text` without what lets somebody into MLflow."""
    settings = {"uri": str(mlflow.get_tracking_uri())}
    for variable in (MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN):
        value = variable.get()  # type: ignore[no-untyped-call]
        settings[variable.name] = value or ""
    return redact(text, find_secrets(settings))


def _check_database_answers() -> None:
    """Raise OSError if nothing listens where the store's database should."""
    try:
        url = sqlalchemy.make_url(str(mlflow.get_tracking_uri()))
    except sqlalchemy.exc.ArgumentError:
        return
    default = DATABASE_PORTS.get(url.get_backend_name())
    if url.host and default:
        address = (url.host, url.port or default)
        socket.create_connection(address, timeout=CONNECT_SECONDS).close()


def prepare_store(experiment: str, model_name: str) -> str:
    """Make the store and the experiment if they are not there; return its URI for people.

    Called once before anything runs in parallel: two processes that make the same SQLite store at
    once collide.

    Raises
    ------
    RegistryError
        If MLflow is not reached, or would refuse the model's name once all is trained.
    """
    _check_model_name(model_name)
    quiet_loggers()
    retries = MLFLOW_HTTP_REQUEST_MAX_RETRIES
    with registry_errors(), _unless_set(retries, FIRST_RETRIES):
        _check_database_answers()
        mlflow.set_experiment(experiment)
    return show_tracking_uri()


def _check_model_name(model_name: str) -> None:
    is_path = normpath(model_name) != model_name or model_name in (".", "..")
    if is_path or not model_name.strip() or set(model_name) & set(NOT_IN_NAMES):
        raise RegistryError(
            f"--model_name {model_name!r} is no name: it is neither empty nor a path, and without "
            + " ".join(NOT_IN_NAMES)
        )


def quiet_loggers() -> None:
    """Let MLflow and what it brings along print warnings only."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Else it prints two lines of links for every run.
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)  # type: ignore[no-untyped-call]
