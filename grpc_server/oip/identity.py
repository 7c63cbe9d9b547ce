"""The name and version by which callers of the protocol know the model."""

from collections.abc import Callable

from grpc_server.errors import ModelUnavailable, UnknownModel
from grpc_server.model import LoadedModel
from grpc_server.model.kinds import quote

DEFAULT_NAME = "model"


class Identity:
    """Knows the model's name.

    Parameters
    ----------
    get_model : callable
        Returns the champion; raises ModelUnavailable without one.
    name : str
        Name of the settings; empty takes the registered model's, or `DEFAULT_NAME` without one.
    """

    def __init__(self, get_model: Callable[[], LoadedModel], name: str) -> None:
        self._get_model = get_model
        self._name = name

    def find_name(self) -> str:
        """Return the name of the model that answers.

        Raises
        ------
        ModelUnavailable
            If no model is loaded yet.
        """
        return self._name or self._get_model().source.registered_model or DEFAULT_NAME

    def is_known(self, name: str, version: str) -> bool:
        """Return whether the model that answers has this name, and this version if one is given."""
        try:
            self.get(name, version)
        except (ModelUnavailable, UnknownModel):
            return False
        return True

    def get(self, name: str, version: str) -> LoadedModel:
        """Return the model that answers.

        Raises
        ------
        ModelUnavailable
            If no model is loaded yet.
        UnknownModel
            If it has another name or version.
        """
        model = self._get_model()
        self.check(model, self.find_name(), name, version)
        return model

    def check(self, model: LoadedModel, name: str, asked: str, version: str) -> None:
        """Refuse a call of another model or version.

        Parameters
        ----------
        model : LoadedModel
            The model.
        name : str
            Its name.
        asked, version : str
            Name and version of the call; an empty version means any.

        Raises
        ------
        UnknownModel
            If they are of another model.
        """
        if asked != name:
            raise UnknownModel(
                f"Request for unknown model: {quote(asked)} is not found; the server has "
                f"{quote(name)}",
                model=asked,
            )
        if version and version != model.source.version:
            raise UnknownModel(
                f"Request for unknown model: {quote(asked)} version {quote(version)} is not "
                f"found; the server has version {quote(model.source.version)}",
                model=asked,
                version=version,
            )
