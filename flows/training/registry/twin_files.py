"""The scored twin in a version of a registered model, and the digests of the rows it has seen.

    extra_files/
    ├─ learned_rows.bin   digests
    └─ scored_twin/       a model as MLflow saves it; absent if the version itself is the twin

The tag `final_fit` says which rows the version itself has learned from. A version without the tag
is older than these files, or another program's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from sklearn.pipeline import Pipeline

from training.data.cells import MAX_SHOWN_CHARACTERS
from training.models.scored_twin import ALL, TRAIN
from training.registry.comparison import NotComparable
from training.registry.learned_rows import LEARNED_FILE, write_learned
from training.registry.registration import FINAL_FIT_TAG
from training.trained_model import TrainedModel

EXTRA_FOLDER, TWIN_FOLDER = "extra_files", "scored_twin"


@dataclass(frozen=True, slots=True, eq=False)
class Opponent:
    """What a new version is compared with.

    Parameters
    ----------
    model : Pipeline
        The version's scored twin.
    learned : Path or None
        File of the digests of what it has learned from; None if nobody knows.
    """

    model: Pipeline
    learned: Path | None


def save_twin(trained: TrainedModel, folder: Path, **options: Any) -> list[str]:
    """Save the scored twin of a trained model, and its digests.

    Parameters
    ----------
    trained : TrainedModel
        Model of the flow run.
    folder : Path
        Folder to save to.
    **options
        Further arguments of `mlflow.sklearn.save_model`.

    Returns
    -------
    list of str
        Paths that belong to the extra files of the version.
    """
    learned, twin = folder / LEARNED_FILE, folder / TWIN_FOLDER
    write_learned(learned, trained.twin.learned)
    if trained.twin.estimator is trained.estimator:
        return [str(learned)]
    mlflow.sklearn.save_model(trained.twin.estimator, str(twin), **options)
    return [str(learned), str(twin)]


@contextmanager
def open_opponent(version: ModelVersion) -> Iterator[Opponent]:
    """Load the scored twin of a version.

    Parameters
    ----------
    version : ModelVersion
        Version of a registered model, perhaps of another program.

    Yields
    ------
    Opponent
        The twin; its files last until the end of the context. The version itself, if it has no
        twin.

    Raises
    ------
    NotComparable
        If it cannot be loaded.
    """
    final_fit = version.tags.get(FINAL_FIT_TAG)
    if final_fit not in (None, ALL, TRAIN):
        raise NotComparable(
            f"its tag {FINAL_FIT_TAG} is {final_fit[:MAX_SHOWN_CHARACTERS]!r}, which is not known "
            "here"
        )
    with TemporaryDirectory(prefix="champion-") as folder:
        root = _download(version, folder)
        extra = root / EXTRA_FOLDER
        model = _load(extra / TWIN_FOLDER if final_fit == ALL else root)
        yield Opponent(model, extra / LEARNED_FILE if final_fit else None)


def _download(version: ModelVersion, folder: str) -> Path:
    uri = f"models:/{version.name}/{version.version}"
    try:
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
    except Exception as error:  # each store of artifacts has errors of its own
        raise NotComparable(f"it cannot be loaded ({type(error).__name__})") from None


def _load(path: Path) -> Pipeline:
    what = "its scored twin" if path.name == TWIN_FOLDER else "it"
    try:
        return mlflow.sklearn.load_model(str(path))
    except (
        Exception
    ) as error:  # another program's or library's model may fail in any way
        raise NotComparable(
            f"{what} cannot be loaded ({type(error).__name__})"
        ) from None
