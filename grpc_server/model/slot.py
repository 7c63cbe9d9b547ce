"""Holds the model that answers.

::

    empty ── put ──> model 1 ── put ──> model 2 ...
      │                 │
     get: error        get: the newest model; a call keeps the model that it began with
"""

from collections.abc import Callable

from grpc_server.errors import ModelUnavailable
from grpc_server.model.loaded import LoadedModel
from grpc_server.model.shadow_status import ShadowStatus
from grpc_server.model.standing import Standing


class ModelSlot:
    """Holds the model that answers, if any.

    No lock is needed: each attribute is replaced in one step.

    Attributes
    ----------
    standing : Standing
        Which version should answer, and why it does not.
    read_shadow : callable or None
        Returns what is known of the shadow; None without one.
    """

    def __init__(self) -> None:
        self._model: LoadedModel | None = None
        self.standing = Standing()
        self.read_shadow: Callable[[], ShadowStatus] | None = None

    def put(self, model: LoadedModel) -> None:
        """Let `model` answer from now on."""
        self._model = model

    def peek(self) -> LoadedModel | None:
        """Return the model that answers, None if no model is loaded yet."""
        return self._model

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
