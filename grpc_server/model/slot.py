"""The place that holds the model which answers."""

from grpc_server.errors import ModelUnavailable
from grpc_server.model.loaded import LoadedModel


class ModelSlot:
    """Holds the model that answers, or why there is none.

    Needs no lock: one attribute is read, and it is replaced as a whole.
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
            If none is loaded yet.
        """
        model = self._model
        if model is None:
            raise ModelUnavailable("no model is loaded yet")
        return model
