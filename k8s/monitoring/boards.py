"""The dashboards, and the questions that they answer."""

from monitoring import distributions, lifecycle, rollout, service
from monitoring.values import Board


def list_boards() -> tuple[Board, ...]:
    """Return all dashboards."""
    return (
        Board(
            "prediction-service",
            "Prediction: service",
            "How much the servers do, how well, how fast and how near to their limits.",
            service.list_rows(),
        ),
        Board(
            "prediction-model",
            "Prediction: model",
            "Which version answers, which should, and what keeps it from answering.",
            lifecycle.list_rows(),
        ),
        Board(
            "prediction-drift",
            "Prediction: drift",
            "Whether rows and scores are still like those of training.",
            distributions.list_rows(),
        ),
        Board(
            "prediction-rollout",
            "Prediction: canary, shadow and log",
            "What other versions would answer, and what is written down.",
            rollout.list_rows(),
        ),
    )
