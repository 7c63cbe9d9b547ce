# /// script
# requires-python = ">=3.11"
# dependencies = ["mlserver>=1.7,<2", "pandas<3", "setuptools<81"]
# ///
"""MLServer's codecs and its generated stub: prints what they are answered, as JSON.

`oip_mlserver.py ADDRESS FILE`: the file is JSON of a matrix, or of columns by name.
"""

import json
import sys

import grpc
import numpy as np
import pandas as pd
from mlserver.codecs import NumpyRequestCodec, PandasCodec
from mlserver.grpc import dataplane_pb2_grpc
from mlserver.grpc.converters import (
    ModelInferRequestConverter,
    ModelInferResponseConverter,
)

ADDRESS = sys.argv[1]
TASK = json.load(open(sys.argv[2]))
MODEL = TASK["model"]


def make_request():
    """Return the request as MLServer's users make it."""
    if "matrix" in TASK:
        return NumpyRequestCodec.encode_request(np.array(TASK["matrix"], np.float64))
    frame = pd.DataFrame({name: values for name, _, values, _ in TASK["columns"]})
    return PandasCodec.encode_request(frame)


def main():
    """Send it raw and typed."""
    told = {}
    with grpc.insecure_channel(ADDRESS) as channel:
        stub = dataplane_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name, is_raw in (("raw", True), ("typed", False)):
            message = ModelInferRequestConverter.from_types(
                make_request(), model_name=MODEL, model_version=None, use_raw=is_raw
            )
            response = ModelInferResponseConverter.to_types(stub.ModelInfer(message))
            by_name = {output.name: output for output in response.outputs}
            values = np.array(list(by_name["probabilities"].data), np.float64)
            labels = list(by_name["label"].data)
            told[name] = {
                "label": [x.decode() if isinstance(x, bytes) else x for x in labels],
                "prediction": list(by_name["prediction"].data),
                "probabilities": values.tobytes().hex(),
            }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
