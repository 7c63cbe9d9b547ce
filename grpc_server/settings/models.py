"""Where models come from: the champion, a canary and a shadow."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from grpc_server.errors import SettingsError
from grpc_server.model_uri import FORMS, ModelUri
from grpc_server.settings.setting import setting
from grpc_server.settings.values import path, share_or_none
from grpc_server.trust import Trust

STORE = Path(".model")


def _time(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        value = datetime.min
    if not 1970 <= value.year < 9999:
        raise ValueError("a time such as 2026-11-01 or 2026-11-01T12:30:00Z")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


@dataclass(frozen=True, init=False, repr=False, eq=False)
class ModelSettings:
    """Source of the model; other settings may name further ones beside it."""

    model_dir: Path | None = setting(
        None,
        path,
        "folder that holds model.binpb, or one folder that does; with --model-uri, a link to "
        f"create (default: {STORE}/NAME@ALIAS)",
    )
    model_uri: ModelUri | None = setting(
        None,
        ModelUri.parse,
        f"registered model to fetch into --model-dir at start: {FORMS}; MLFLOW_TRACKING_URI names "
        "the registry",
    )
    trusted_keys: Path | None = setting(
        None,
        path,
        "file of public keys (Ed25519, PEM): a model that none of them has signed is refused; by "
        "default models are not verified",
    )
    signed_model_name: str = setting(
        "",
        str,
        "registered model that signatures must name; by default that of --model-uri, or any",
    )
    trusted_since: datetime | None = setting(
        None,
        _time,
        "refuse signed models that were made before, such as 2026-11-01 or 2026-11-01T12:30Z; UTC "
        "without a zone (default: none)",
    )

    @property
    def model_folder(self) -> Path:
        """Folder of the model, or link to it.

        Raises
        ------
        SettingsError
            If the settings name no model.
        """
        if self.model_dir is not None:
            return self.model_dir
        if self.model_uri is not None:
            return STORE / self.model_uri.link_name
        raise SettingsError(
            f"no model is named; give --model-dir FOLDER or --model-uri {FORMS}"
        )

    @property
    def trust(self) -> Trust | None:
        """Whose signatures of models to accept; None accepts any model.

        Raises
        ------
        SettingsError
            If signatures must name a model, and no keys are trusted.
        """
        uri_name = "" if self.model_uri is None else self.model_uri.name
        if self.trusted_keys is not None:
            since = self.trusted_since
            return Trust(
                self.trusted_keys,
                self.signed_model_name or uri_name,
                0.0 if since is None else since.timestamp(),
            )
        if self.trusted_since is not None:
            raise SettingsError("--trusted-since needs --trusted-keys FILE")
        if self.signed_model_name:
            raise SettingsError(
                f"--signed-model-name {self.signed_model_name!r} needs --trusted-keys FILE"
            )
        return None

    def _find_folder(
        self, role: str, folder: Path | None, uri: ModelUri | None
    ) -> Path | None:
        """Return the folder of a model beside the champion."""
        if folder is None and uri is not None:
            folder = STORE / uri.link_name
        has_model = self.model_dir is not None or self.model_uri is not None
        if folder is not None and has_model and folder == self.model_folder:
            raise SettingsError(
                f"the {role}'s folder {str(folder)!r} is the model's; give --{role}-dir another, "
                f"or --{role}-uri another alias"
            )
        return folder

    def _find_trust(self, uri: ModelUri | None) -> Trust | None:
        """Return the trust in a model beside the champion."""
        trust = self.trust
        if trust is None or self.signed_model_name or uri is None:
            return trust
        return replace(trust, model_name=uri.name)


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
