"""Answers ModelInfer.

::

    request ── one raw tensor of one row of doubles ──> row ──> scores ──> prepared reply
       │ anything else
    question ──> rows ──> scores ──> reply, raw or typed

Where a canary serves, each call that names no version goes to it or to the champion.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any, NamedTuple

from grpc_server.canary.judge import Answer
from grpc_server.errors import DeadlineExceeded
from grpc_server.model import LoadedModel, ModelSlot
from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.identity import Identity
from grpc_server.oip.replies import RowTemplate, write_reply
from grpc_server.oip.requests import Question, read_question
from grpc_server.oip.rows import read_rows
from grpc_server.oip.scoring import Scorer
from grpc_server.oip.telling import Teller
from grpc_server.rpc.calls import Call
from grpc_server.rpc.canary import CanaryServicer, summarize
from grpc_server.rpc.servicer import find_max_rows

# Models with prepared replies: the champion and the canary.
_N_TEMPLATES = 2


class Answered(NamedTuple):
    """A reply, and what a canary's judge looks at."""

    reply: bytes
    model: LoadedModel
    positions: Sequence[int]
    probabilities: Any  # of each row

    @property
    def model_version(self) -> str:
        """Version that has answered."""
        return self.model.source.version


class ModelInfer:
    """Answers the calls of ModelInfer; raises domain errors.

    Parameters
    ----------
    slot : ModelSlot
        Holds the champion.
    identity : Identity
        Knows the model's name.
    scorer : Scorer
        Scores rows.
    max_batch_rows : int
        Most rows of one call, 1 or more.
    canary : CanaryServicer or None
        Divides the calls between the two models; None without a canary.
    teller : Teller or None
        Tells observers of answered calls, if there are any.
    """

    def __init__(
        self,
        slot: ModelSlot,
        identity: Identity,
        scorer: Scorer,
        max_batch_rows: int,
        canary: CanaryServicer | None = None,
        teller: Teller | None = None,
    ) -> None:
        self._slot = slot
        self._identity = identity
        self._scorer = scorer
        self._max_batch_rows = max_batch_rows
        self._canary = canary
        self._teller = teller
        # Any thread may replace it, in one step.
        self._templates: tuple[RowTemplate, ...] = ()

    def __call__(self, request: pb.ModelInferRequest, call: Call) -> bytes:
        """Return the encoded reply."""
        if self._canary is None or request.model_version:
            return self._answer(self._slot.get(), request, call).reply
        return self._canary.divide(
            call, lambda model: self._answer(model, request, call), _read
        ).reply

    def _answer(
        self, model: LoadedModel, request: pb.ModelInferRequest, call: Call
    ) -> Answered:
        template = self._find_template(model)
        row = template.read(request)
        if row is None:
            return self._answer_any(model, template.name, request, call)
        position, probabilities = self._scorer.score_row(model, row)
        reply = template.write(request.id, position, probabilities)
        call.n_rows = 1
        if self._teller is not None:
            self._teller.tell_row(call, model, row, position, probabilities)
        return Answered(reply, model, (position,), (probabilities,))

    def _answer_any(
        self, model: LoadedModel, name: str, request: pb.ModelInferRequest, call: Call
    ) -> Answered:
        self._identity.check(model, name, request.model_name, request.model_version)
        question = read_question(request)
        _check_time(question, call)
        schema = model.input_schema
        rows = read_rows(
            schema,
            question.tensors,
            find_max_rows(model, self._max_batch_rows),
            ignores_extra=question.ignores_extra,
        )
        scores = self._scorer.score(model, rows.X, explains=question.explains)
        reply = write_reply(
            request.model_name,
            request.id,
            scores,
            question.outputs,
            is_raw=question.is_raw,
        )
        call.n_rows = len(scores.positions)
        if self._teller is not None:
            self._teller.tell_batch(call, rows, scores)
        return Answered(reply, model, scores.positions, scores.probabilities)

    def _find_template(self, model: LoadedModel) -> RowTemplate:
        for template in self._templates:
            if template.model is model:
                return template
        # The champion's name, which stays if a model of another name takes over for a canary.
        template = RowTemplate.of(model, self._identity.find_name())
        self._templates = (template, *self._templates[: _N_TEMPLATES - 1])
        return template


def _check_time(question: Question, call: Call) -> None:
    """Refuse a call whose parameter timeout has passed, before it costs a prediction."""
    if monotonic() - call.arrival > question.timeout_seconds:
        raise DeadlineExceeded(
            "the parameter timeout passed before the call could be answered"
        )


def _read(answered: Answered, seconds: float) -> tuple[int, Answer]:
    probabilities = answered.probabilities
    return summarize(
        answered.model.classes.labels,
        answered.positions,
        lambda row: float(max(probabilities[row])),
        seconds,
    )
