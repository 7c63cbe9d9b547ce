"""The desk of ModelInfer: small requests go to the fast lane, the others to worker threads."""

from collections.abc import Callable

from grpc_server.model import LoadedModel, ModelSlot
from grpc_server.oip.replies import write_varint
from grpc_server.oip.rows import is_numeric
from grpc_server.rpc.calls import Call, Desk

# Tag of raw_input_contents, the last field of an encoded request.
_RAW_TAG = b"\x3a"
# Most bytes of the names, shape and id of a request that goes to the lane.
_MAX_HEAD_BYTES = 512


class ForkedDesk:
    """Sends each call to one of two desks once its message is there.

    Only the encoded end of a message is looked at, so a call may come to the lane that is not as
    simple as it seems; its size is bounded, and the reply is the same.

    Parameters
    ----------
    lane : Desk
        Computes requests of one raw tensor with one row of doubles; it admits all calls.
    workers : Desk
        Computes the others.
    slot : ModelSlot
        Holds the current model.
    """

    def __init__(self, lane: Desk, workers: Desk, slot: ModelSlot) -> None:
        self.admit: Callable[[Call], bool] = lane.admit
        self.forget: Callable[[Call], None] = lane.forget
        self._lane = lane
        self._workers = workers
        self._slot = slot
        self._model: LoadedModel | None = None
        self._n_row_bytes = 0
        self._row_head = b""

    def take(self, call: Call) -> None:
        """Hand the call to the lane or to the workers."""
        model = self._slot.peek()
        if model is not self._model:
            self._learn(model)
        message = call.message
        assert message is not None
        n_bytes, head = self._n_row_bytes, self._row_head
        if (
            n_bytes
            and len(message) - n_bytes <= _MAX_HEAD_BYTES
            and message[-n_bytes - len(head) : -n_bytes] == head
        ):
            self._lane.take(call)
            return
        call.watch()
        self._workers.take(call)

    def _learn(self, model: LoadedModel | None) -> None:
        """Find out what a row of the model looks like; 0 bytes if it has none of doubles alone."""
        self._model = model
        self._n_row_bytes = 0
        if model is not None and is_numeric(model.input_schema):
            self._n_row_bytes = 8 * len(model.input_schema.features)
            self._row_head = _RAW_TAG + write_varint(self._n_row_bytes)
