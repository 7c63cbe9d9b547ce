"""Holds the model that answers.

::

    empty ── put ──> model 1 ── put ──> model 2 ...
      │                 │
     get: error        get: the newest model; a call keeps the model that it began with
"""

from grpc_server.errors import ModelUnavailable
from grpc_server.model.loaded import LoadedModel


class ModelSlot:
    """Holds the model that answers, if any.

    No lock is needed: the one attribute is replaced in one step.
    """

    def __init__(self) -> None:
        self._model: LoadedModel | None = None

    def put(self, model: LoadedModel) -> None:
        """Let `model` answer from now on."""
        self._model = model

    def get(self) -> LoadedModel:
        """Return the model that answers.

        Raises
        ------
        ModelUnavailable
            If no model is loaded yet.
        """
        model = self._model
        if model is None:
            raise ModelUnavailable("no model is loaded yet")
        return model
