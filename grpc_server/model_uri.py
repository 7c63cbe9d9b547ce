"""URIs of registered models: ``models:/NAME@ALIAS`` and ``models:/NAME/VERSION``."""

import re
from dataclasses import dataclass

FORMS = "models:/NAME@ALIAS or models:/NAME/VERSION"


@dataclass(frozen=True, slots=True)
class ModelUri:
    """A parsed URI; either `alias` or `version` is set."""

    name: str
    alias: str | None
    version: str | None

    @classmethod
    def parse(cls, text: str) -> "ModelUri":
        """Parse a URI.

        Raises
        ------
        ValueError
            If the text has neither form; the message names the two forms.
        """
        match = re.fullmatch(
            r"models:/([^/@\0-\x1f\x7f]+)(?:@([\w-]+)|/([1-9][0-9]{0,18}))", text
        )
        if match is None:
            raise ValueError(FORMS)
        return cls(match[1], match[2], match[3])

    def __str__(self) -> str:
        version = f"@{self.alias}" if self.version is None else f"/{self.version}"
        return f"models:/{self.name}{version}"

    @property
    def link_name(self) -> str:
        """Name of a link for this URI alone: servers of two models must not share a link."""
        return str(self).removeprefix("models:/").replace("/", "-")

    def may_mean(self, registered_model: str, version: str) -> bool:
        """Return whether the URI may mean a model that was fetched before.

        An alias may have meant any version of its model.

        Parameters
        ----------
        registered_model : str
            Name of the model.
        version : str
            Version of the model.

        Returns
        -------
        bool
            False if the name differs, or the URI names another version.
        """
        return registered_model == self.name and self.version in (None, version)
