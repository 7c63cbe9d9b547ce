"""Finds MLflow's store and checks that it answers; faults become one line without a password."""

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

# Limits of the first contact. By its own defaults, MLflow tries a server for more than a minute,
# and waits 101 seconds for a database.
CONNECT_SECONDS = 5.0
FIRST_RETRIES = 2
DATABASE_PORTS = {"mssql": 1433, "mysql": 3306, "postgresql": 5432}
# MLflow refuses some of these, its URIs read one as an alias, and the quotes would end its queries.
NOT_IN_NAMES = "/:@'\""
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
        Address of the store, without secrets.

    Raises
    ------
    RegistryError
        If MLflow is not reached, or would refuse the model's name after the training.
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
            f"--model_name {model_name!r} is not allowed: a name is neither empty nor a path, and "
            f"has none of {' '.join(NOT_IN_NAMES)}"
        )


def quiet_loggers() -> None:
    """Let MLflow and its libraries print warnings only."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # MLflow would print two lines of links for every run.
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)  # type: ignore[no-untyped-call]
