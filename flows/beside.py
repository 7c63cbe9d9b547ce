"""Prepares MLflow's store in a process of its own, while the table is read."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context


def _prepare(experiment: str, model_name: str) -> str:
    from training.registry.store import prepare_store

    return prepare_store(experiment, model_name)


@contextmanager
def store_prepared_beside(
    experiment: str, model_name: str
) -> Iterator[Callable[[], str]]:
    """Prepare MLflow's store on another core. MLflow alone takes seconds to load.

    Parameters
    ----------
    experiment, model_name : str
        As in `training.registry.store.prepare_store`.

    Yields
    ------
    callable
        Waits for the end, and returns the line for the user or raises the RegistryError.
    """
    # A forked process would keep the locks of this one's threads.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        yield processes.submit(_prepare, experiment, model_name).result
