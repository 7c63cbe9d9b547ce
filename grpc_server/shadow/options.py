"""The options of the shadow, and their way to its process."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from grpc_server.model_uri import ModelUri
from grpc_server.settings import Settings
from grpc_server.trust import Trust


@dataclass(frozen=True, slots=True)
class ShadowOptions:
    """What the shadow's process must know.

    Parameters
    ----------
    folder : Path
        Folder of the shadow, or link to it.
    uri : ModelUri or None
        Model to accept; None accepts any.
    trust : Trust or None
        Whose signatures to accept; None accepts any.
    max_batch_rows : int
        Most rows of one batch, 1 or more.
    """

    folder: Path
    uri: ModelUri | None
    trust: Trust | None
    max_batch_rows: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Return the options; None without a shadow.

        Raises
        ------
        SettingsError
            If the shadow's folder is the model's.
        """
        folder = settings.shadow_folder
        if folder is None:
            return None
        return cls(
            folder, settings.shadow_uri, settings.shadow_trust, settings.max_batch_rows
        )

    def encode(self) -> str:
        """Return the options as a text for a command line."""
        return json.dumps(
            {
                "folder": str(self.folder),
                "uri": None if self.uri is None else str(self.uri),
                "trust": [] if self.trust is None else self.trust.to_arguments(),
                "max_batch_rows": self.max_batch_rows,
            }
        )

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the options that `encode` made a text of."""
        values = json.loads(text)
        uri = values["uri"]
        return cls(
            Path(values["folder"]),
            None if uri is None else ModelUri.parse(uri),
            Trust.from_arguments(values["trust"]),
            values["max_batch_rows"],
        )
