"""Models beside the champion: a canary, which answers a share of the calls, and a shadow."""

from dataclasses import dataclass
from pathlib import Path

from grpc_server.model_uri import ModelUri
from grpc_server.settings.model_source import STORE, ModelSettings
from grpc_server.settings.setting import setting
from grpc_server.settings.values import path, share_or_none
from grpc_server.trust import Trust


@dataclass(frozen=True, init=False, repr=False, eq=False)
class CanarySettings(ModelSettings):
    """The canary, and when it is aborted."""

    canary_uri: ModelUri | None = setting(
        None,
        ModelUri.parse,
        "registered model of a canary, which answers a share of the calls; as --model-uri",
    )
    canary_dir: Path | None = setting(
        None,
        path,
        "folder of the canary's model.binpb; as --model-dir (default: none; with --canary-uri "
        f"{STORE}/NAME@ALIAS)",
    )
    canary_share: float = setting(
        0.05,
        share_or_none,
        "share of the calls that the canary answers, by the metadata prediction-key, or by chance "
        "without one",
    )
    canary_max_errors: float = setting(
        0.01,
        share_or_none,
        "largest share of its calls that a canary may fail to answer before it is aborted; the "
        "champion answers them",
    )
    canary_max_shift: float = setting(
        0.1,
        share_or_none,
        "largest difference between a canary and the champion in the share of a label, in the mean "
        "top probability and in the share of slow calls before the canary is aborted",
    )

    @property
    def canary_folder(self) -> Path | None:
        """Folder of the canary, or link to it; None without a canary.

        Raises
        ------
        SettingsError
            If it is the model's folder.
        """
        return self._find_folder("canary", self.canary_dir, self.canary_uri)

    @property
    def canary_trust(self) -> Trust | None:
        """Whose signatures of canaries to accept; None accepts any model."""
        return self._find_trust(self.canary_uri)


@dataclass(frozen=True, init=False, repr=False, eq=False)
class ShadowSettings(ModelSettings):
    """The shadow."""

    shadow_uri: ModelUri | None = setting(
        None,
        ModelUri.parse,
        "registered model of a shadow, which scores answered calls in a process of its own and "
        "answers nobody; as --model-uri",
    )
    shadow_dir: Path | None = setting(
        None,
        path,
        "folder of the shadow's model.binpb; as --model-dir (default: none; with --shadow-uri "
        f"{STORE}/NAME@ALIAS)",
    )
    shadow_share: float = setting(
        1.0,
        share_or_none,
        "share of the answered calls that the shadow scores, chosen by their x-request-id",
    )

    @property
    def shadow_folder(self) -> Path | None:
        """Folder of the shadow, or link to it; None without a shadow.

        Raises
        ------
        SettingsError
            If it is the model's folder.
        """
        return self._find_folder("shadow", self.shadow_dir, self.shadow_uri)

    @property
    def shadow_trust(self) -> Trust | None:
        """Whose signatures of shadows to accept; None accepts any model."""
        return self._find_trust(self.shadow_uri)
