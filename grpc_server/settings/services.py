"""What the server offers besides predictions, and under which name."""

from dataclasses import dataclass

from grpc_server.settings.setting import setting
from grpc_server.settings.values import boolean, integer


def _model_name(text: str) -> str:
    if not 0 < len(text) <= 256 or not text.isprintable() or text != text.strip():
        raise ValueError("a name of 1 to 256 printable characters")
    return text


@dataclass(frozen=True, init=False, repr=False, eq=False)
class ServiceSettings:
    """Services that can be switched off."""

    drift_features: int = setting(
        30,
        integer(0, 500),
        "features whose drift is counted bin by bin, the most important first; the others get one "
        "index each; 0 counts nothing",
    )
    describe: bool = setting(
        True, boolean, "answer GetModel, which names the model's features and classes"
    )
    open_inference: bool = setting(
        True,
        boolean,
        "serve the Open Inference Protocol v2, which clients of KServe and Triton speak: "
        "inference.GRPCInferenceService, and /v2 on the HTTP port",
    )
    model_name: str = setting(
        "",
        _model_name,
        "name of the model in calls of the Open Inference Protocol; by default that of "
        "--model-uri's registered model, or model without one",
    )
    page: bool = setting(
        True,
        boolean,
        "show a page with the model and a form on the HTTP port, and answer predictions in JSON "
        "there",
    )
    reflection: bool = setting(
        True, boolean, "serve gRPC reflection, which grpcurl needs"
    )
