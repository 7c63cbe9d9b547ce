"""The calls of inference.GRPCInferenceService besides ModelInfer."""

import grpc

from grpc_server import __version__
from grpc_server.oip import model_config_pb2 as config_pb
from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.facts import configure, describe
from grpc_server.oip.identity import Identity
from grpc_server.rpc.health import Health
from grpc_server.rpc.servicer import find_max_rows

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
INFER = "ModelInfer"
INFER_PATH = f"/{SERVICE_NAME}/{INFER}"
METADATA_PATH = f"/{SERVICE_NAME}/ModelMetadata"
SERVER_NAME = "prediction-server"
# "statistics" would make Triton's perf_analyzer call ModelStatistics, which is not here.
EXTENSIONS = ("model_configuration", "parameters")


class OpenInferenceServicer:
    """Tells what the protocol asks of the server and its model; raises domain errors.

    Parameters
    ----------
    identity : Identity
        Knows the model's name.
    health : Health
        Knows whether the server is ready.
    max_batch_rows : int
        Most rows of one call, 1 or more.
    """

    def __init__(self, identity: Identity, health: Health, max_batch_rows: int) -> None:
        self._identity = identity
        self._health = health
        self._max_batch_rows = max_batch_rows

    def ServerLive(
        self, request: pb.ServerLiveRequest, context: grpc.ServicerContext
    ) -> pb.ServerLiveResponse:
        """Tell that the process answers."""
        return pb.ServerLiveResponse(live=True)

    def ServerReady(
        self, request: pb.ServerReadyRequest, context: grpc.ServicerContext
    ) -> pb.ServerReadyResponse:
        """Tell what the health service says of readiness."""
        return pb.ServerReadyResponse(ready=self._is_ready())

    def ModelReady(
        self, request: pb.ModelReadyRequest, context: grpc.ServicerContext
    ) -> pb.ModelReadyResponse:
        """Tell whether the model is ready; another name or version is not, as Triton says."""
        is_known = self._identity.is_known(request.name, request.version)
        return pb.ModelReadyResponse(ready=is_known and self._is_ready())

    def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ServerMetadataResponse:
        """Describe the server."""
        return pb.ServerMetadataResponse(
            name=SERVER_NAME, version=__version__, extensions=EXTENSIONS
        )

    def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ModelMetadataResponse:
        """Describe the model."""
        model = self._identity.get(request.name, request.version)
        return describe(model, request.name)

    def ModelConfig(
        self, request: config_pb.ModelConfigRequest, context: grpc.ServicerContext
    ) -> config_pb.ModelConfigResponse:
        """Describe the model as Triton does."""
        model = self._identity.get(request.name, request.version)
        return configure(
            model, request.name, find_max_rows(model, self._max_batch_rows)
        )

    def _is_ready(self) -> bool:
        return self._health.why_not_ready() is None
