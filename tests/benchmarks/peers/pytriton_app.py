# /// script
# requires-python = ">=3.11"
# dependencies = ["nvidia-pytriton", "scikit-learn", "lightgbm"]
# ///
"""PyTriton over gRPC."""

import os
import sysconfig

import numpy as np
import peer
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from tritonclient.grpc import service_pb2 as pb


def prepare(folder, estimator, row):
    """Return where to send what."""
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="x", datatype="FP64", shape=[1, len(row)]
    )
    outputs = [pb.ModelInferRequest.InferRequestedOutputTensor(name="probabilities")]
    request = pb.ModelInferRequest(
        model_name="model",
        inputs=[tensor],
        outputs=outputs,
        raw_input_contents=[np.array(row).tobytes()],
    )
    return peer.V2_PATH, request.SerializeToString()


def serve(folder, port):
    """Serve with batches as they come."""
    model = peer.load(folder)
    # Its backend loads a libpython: that of this Python, not of the system's.
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")

    @batch
    def infer(x):
        return [model.predict_proba(x)]

    config = TritonConfig(
        grpc_port=port, http_port=port + 1, metrics_port=port + 2, log_verbose=0
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float64, shape=(-1,))],
            outputs=[Tensor(name="probabilities", dtype=np.float64, shape=(-1,))],
            config=ModelConfig(max_batch_size=64),
        )
        triton.serve()


if __name__ == "__main__":
    peer.run(prepare, serve)
