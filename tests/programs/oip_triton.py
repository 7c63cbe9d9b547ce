# /// script
# requires-python = ">=3.11"
# dependencies = ["tritonclient[grpc]>=2.60,<3"]
# ///
"""Triton's clients, sync and aio: prints what they are answered, as JSON.

`oip_triton.py ADDRESS FILE`: the file is JSON of a matrix, or of columns by name.
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import aio, model_config_pb2, service_pb2

ADDRESS = sys.argv[1]
TASK = json.load(open(sys.argv[2]))
MODEL = TASK["model"]


def make_inputs():
    """Return the inputs, as tritonclient encodes them."""
    if "matrix" in TASK:
        array = np.array(TASK["matrix"], np.float64)
        tensor = triton.InferInput("x", list(array.shape), "FP64")
        tensor.set_data_from_numpy(array)
        return [tensor]
    inputs = []
    for name, datatype, values, missing in TASK["columns"]:
        dtype = {"BYTES": object, "BOOL": bool, "FP64": float, "INT64": np.int64}
        array = np.array(values, dtype[datatype]).reshape(-1, 1)
        tensor = triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        if missing:
            tensor._get_tensor().parameters["missing_rows"].string_param = missing
        inputs.append(tensor)
    return inputs


def read(result):
    """Return a reply as JSON can hold it; doubles as their bits."""
    response = result.get_response()
    return {
        "id": response.id,
        "outputs": [output.name for output in response.outputs],
        "label": [text.decode() for text in result.as_numpy("label")],
        "prediction": result.as_numpy("prediction").tolist(),
        "probabilities": result.as_numpy("probabilities").tobytes().hex(),
    }


def failure(call, *arguments, **named):
    """Return the status and the message of a call that has to fail."""
    try:
        call(*arguments, **named)
    except triton.InferenceServerException as error:
        return [str(error.status()), error.message()]
    raise AssertionError("the call has not failed")


def main():
    """Call everything."""
    client = triton.InferenceServerClient(ADDRESS)
    inputs = make_inputs()
    wanted = [triton.InferRequestedOutput(n) for n in ("probabilities", "label")]
    few = client.infer(MODEL, inputs, outputs=wanted)
    metadata = client.get_model_metadata(MODEL, as_json=True)
    config = client.get_model_config(MODEL, as_json=True)
    told = {
        "protos": [
            proto.DESCRIPTOR.serialized_pb.hex()
            for proto in (service_pb2, model_config_pb2)
        ],
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(MODEL),
        "other_ready": client.is_model_ready("other"),
        "other_version_ready": client.is_model_ready(MODEL, "999"),
        "server": client.get_server_metadata(as_json=True),
        "metadata": metadata,
        "config": config,
        "sync": read(client.infer(MODEL, inputs, request_id="r1", priority=3)),
        "few": [output.name for output in few.get_response().outputs],
        "few_label": [text.decode() for text in few.as_numpy("label")],
        "failures": {
            "model": failure(client.infer, "other", inputs),
            "version": failure(client.infer, MODEL, inputs, model_version="999"),
            "output": failure(
                client.infer,
                MODEL,
                inputs,
                outputs=[triton.InferRequestedOutput("odd")],
            ),
            "inputs": failure(client.infer, MODEL, []),
            "class_count": failure(
                client.infer,
                MODEL,
                inputs,
                outputs=[triton.InferRequestedOutput("label", class_count=1)],
            ),
            "sequence": failure(client.infer, MODEL, inputs, sequence_id=7),
            "timeout": failure(client.infer, MODEL, inputs, timeout=1),
            "parameter": failure(
                client.infer, MODEL, inputs, parameters={"ignore_extra": "yes"}
            ),
        },
        "aio": asyncio.run(infer_aio(inputs)),
        "callback": infer_later(client, inputs),
    }
    print(json.dumps(told))


async def infer_aio(inputs):
    """Return what the asyncio client is answered."""
    async with aio.InferenceServerClient(ADDRESS) as client:
        assert await client.is_model_ready(MODEL)
        return read(await client.infer(MODEL, inputs, request_id="r2"))


def infer_later(client, inputs):
    """Return what the callback of async_infer gets."""
    import queue

    came = queue.Queue()
    client.async_infer(
        MODEL, inputs, lambda result, error: came.put((result, error)), request_id="r3"
    )
    result, error = came.get(timeout=20)
    assert error is None, error
    return read(result)


if __name__ == "__main__":
    main()
