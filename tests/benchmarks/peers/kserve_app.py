# /// script
# requires-python = ">=3.11"
# dependencies = ["kserve", "scikit-learn", "lightgbm"]
# ///
"""KServe's Python server over gRPC, with a model of one's own."""

import peer
from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb


class Classifier(Model):
    """A tensor of rows in, their probabilities out."""

    def __init__(self, folder):
        super().__init__("model")
        self.model = peer.load(folder)
        self.ready = True

    def predict(self, payload, headers=None):
        """Return the probabilities."""
        probabilities = self.model.predict_proba(payload.inputs[0].as_numpy())
        output = InferOutput("probabilities", list(probabilities.shape), "FP64")
        output.set_data_from_numpy(probabilities, binary_data=False)
        return InferResponse(payload.id or "0", "model", [output])


def prepare(folder, estimator, row):
    """Return where to send what."""
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="x",
        datatype="FP64",
        shape=[1, len(row)],
        contents=pb.InferTensorContents(fp64_contents=row),
    )
    request = pb.ModelInferRequest(model_name="model", inputs=[tensor])
    return peer.V2_PATH, request.SerializeToString()


def serve(folder, port):
    """Serve with one process."""
    server = ModelServer(http_port=port + 1, grpc_port=port, workers=1)
    server.start([Classifier(folder)])


if __name__ == "__main__":
    peer.run(prepare, serve)
