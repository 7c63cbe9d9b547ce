"""The trace of the client's caller, which the server continues."""

from pathlib import Path

import pandas as pd
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from grpc_server.rpc.health import SERVICE_NAME
from prediction import PredictionClient, opentelemetry_context
from prediction._tracing import read_context

from support import running_server
from tracing_support import PARENT, PARENT_ID, TRACE_ID, running_collector


def test_the_servers_spans_belong_to_the_clients_span(model_dir: Path) -> None:
    context = SpanContext(
        int(TRACE_ID, 16), int(PARENT_ID, 16), False, TraceFlags(TraceFlags.SAMPLED)
    )
    with running_collector() as collector:
        with running_server(
            model_dir, otlp_endpoint=collector.url, trace_share=0.0
        ) as server:
            target = f"127.0.0.1:{server.port}"
            with PredictionClient(
                target, trace_context=opentelemetry_context
            ) as client:
                client.predict([1.0, 2.0])  # outside of any span
                with trace.use_span(NonRecordingSpan(context)):
                    client.predict([1.0, 2.0], request_id="order-7")
                    features = client.get_model().features
                    row = {feature.name: [1.0] for feature in features}
                    client.predict_frame(pd.DataFrame(row))

    names = ("Predict", "GetModel", "BatchPredict")
    roots = [root for n in names for root in collector.roots(f"{SERVICE_NAME}/{n}")]
    assert len(roots) >= 3
    assert len(collector.roots(f"{SERVICE_NAME}/Predict")) == 1
    for root in roots:
        assert root.trace_id.hex() == TRACE_ID
        assert root.parent_span_id.hex() == PARENT_ID


@pytest.mark.parametrize("value", ["ü", "x" * 513, "a\nb"])
def test_a_context_that_cannot_be_sent_is_an_error(value: str) -> None:
    def context() -> dict[str, str]:
        return {"traceparent": value}

    with PredictionClient("127.0.0.1:9", trace_context=context) as client:
        with pytest.raises(ValueError, match="traceparent"):
            client.predict([1.0])


def test_other_names_are_not_sent() -> None:
    found = {"traceparent": PARENT, "baggage": "secret=1", "tracestate": ""}
    assert read_context(lambda: found) == (("traceparent", PARENT),)
