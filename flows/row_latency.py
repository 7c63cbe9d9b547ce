"""Measures how long the server takes for one row, by the server's code in a process of its own."""

import tempfile
from pathlib import Path

from training.models.served_latency import ServedLatency


def measure_latency(artifact: bytes) -> ServedLatency:
    """Load an artifact as the server does, and time it on the rows of its golden examples.

    Parameters
    ----------
    artifact : bytes
        The file that will be registered.

    Returns
    -------
    ServedLatency
        Of this machine.

    Raises
    ------
    ArtifactError
        If the server cannot load it, or the process ends without an answer.
    """
    from grpc_server import errors, trial_load
    from prediction.artifact import FILE_NAME
    from training.errors import ArtifactError

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, FILE_NAME).write_bytes(artifact)
        try:
            answer = trial_load.try_on_rows(Path(folder))
        except errors.ArtifactError as error:
            raise ArtifactError(
                f"the time for one row cannot be measured, because the server does not load the "
                f"model: {error}"
            ) from None
    return ServedLatency(answer["median_us"], answer["p99_us"], int(answer["n_calls"]))
