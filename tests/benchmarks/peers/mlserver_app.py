# /// script
# requires-python = ">=3.11"
# dependencies = ["mlserver", "mlserver-sklearn", "mlserver-lightgbm", "scikit-learn", "lightgbm"]
# ///
"""MLServer over gRPC with its own runtimes, in its main process: for a small model the fastest."""

import json
import os
import sys
from pathlib import Path

import peer
from mlserver.grpc import dataplane_pb2 as pb


def prepare(folder, estimator, row):
    """Write the model's settings; return where to send what."""
    implementation, uri = "mlserver_sklearn.SKLearnModel", peer.MODEL
    output = "predict_proba"
    if hasattr(estimator, "booster_"):
        implementation, uri = "mlserver_lightgbm.LightGBMModel", "model.bst"
        output = "predict"
        estimator.booster_.save_model(folder / uri)
    settings = {
        "name": "model",
        "implementation": implementation,
        "parameters": {"uri": str(folder / uri)},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="x",
        datatype="FP64",
        shape=[1, len(row)],
        contents=pb.InferTensorContents(fp64_contents=row),
    )
    outputs = [pb.ModelInferRequest.InferRequestedOutputTensor(name=output)]
    request = pb.ModelInferRequest(model_name="model", inputs=[tensor], outputs=outputs)
    return peer.V2_PATH, request.SerializeToString()


def serve(folder, port):
    """Serve with its own program."""
    settings = {
        "host": "127.0.0.1",
        "grpc_port": port,
        "http_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(folder)])


if __name__ == "__main__":
    peer.run(prepare, serve)
