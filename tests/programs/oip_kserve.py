# /// script
# requires-python = ">=3.11"
# dependencies = ["kserve>=0.17,<1", "setuptools<81"]
# ///
"""KServe's InferenceGRPCClient: prints what it is answered, as JSON.

`oip_kserve.py ADDRESS FILE`: the file is JSON of a matrix, or of columns by name.
"""

import asyncio
import json
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2

ADDRESS = sys.argv[1]
TASK = json.load(open(sys.argv[2]))
MODEL = TASK["model"]


def make_inputs(as_arrays):
    """Return the inputs: NumPy's arrays, which go raw, or lists, which go typed."""
    if "matrix" in TASK:
        array = np.array(TASK["matrix"], np.float64)
        if as_arrays:
            tensor = InferInput("x", list(array.shape), "FP64")
            tensor.set_data_from_numpy(array, binary_data=True)
            return [tensor]
        return [InferInput("x", list(array.shape), "FP64", data=array.ravel().tolist())]
    inputs = []
    for name, datatype, values, missing in TASK["columns"]:
        dtype = {"BYTES": object, "BOOL": bool, "FP64": float, "INT64": np.int64}
        parameters = {"missing_rows": missing} if missing else None
        if as_arrays:
            array = np.array(values, dtype[datatype])
            tensor = InferInput(name, [len(values)], datatype, parameters=parameters)
            tensor.set_data_from_numpy(array, binary_data=True)
        else:
            if datatype == "BYTES":
                values = [value.encode() for value in values]
            tensor = InferInput(
                name, [len(values)], datatype, data=values, parameters=parameters
            )
        inputs.append(tensor)
    return inputs


def read(response):
    """Return a reply as JSON can hold it; doubles as their bits."""
    by_name = {output.name: output for output in response.outputs}
    labels = by_name["label"].as_numpy().tolist()
    return {
        "id": response.id,
        "label": [x.decode() if isinstance(x, bytes) else x for x in labels],
        "prediction": by_name["prediction"].as_numpy().tolist(),
        "probabilities": by_name["probabilities"]
        .as_numpy()
        .astype(np.float64)
        .tobytes()
        .hex(),
    }


async def main():
    """Call everything."""
    client = InferenceGRPCClient(ADDRESS)
    told = {
        "protos": [grpc_predict_v2_pb2.DESCRIPTOR.serialized_pb.hex()],
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model_ready": await client.is_model_ready(MODEL),
        "other_ready": await client.is_model_ready("other"),
    }
    for name, as_arrays in (("arrays", True), ("lists", False)):
        request = InferRequest(
            MODEL,
            make_inputs(as_arrays),
            request_id="r1",
            parameters={"content_type": "pd"},
        )
        told[name] = read(await client.infer(request))
    request = InferRequest(MODEL, make_inputs(False))
    response = await client.infer(request)
    told["data"] = [
        output.data for output in response.outputs if output.name == "prediction"
    ]
    try:
        await client.infer(InferRequest("other", make_inputs(True)))
    except grpc.RpcError as error:
        told["other"] = error.code().name
    await client.close()
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
