"""`python -m grpc_server.shadow SOCKET OPTIONS LEVEL`: the observer that scores with the shadow."""

import logging
import os
import socket
import sys
from collections.abc import Sequence

from grpc_server.logs import configure_logging
from grpc_server.model.watch import ModelWatcher
from grpc_server.observe.program import run_observer
from grpc_server.observe.reports import Reporter
from grpc_server.shadow.options import ShadowOptions
from grpc_server.shadow.scorer import ShadowScorer
from prediction_common.secrets import find_secrets

_log = logging.getLogger("grpc_server.shadow")


def make_scorer(options: ShadowOptions, reporter: Reporter) -> ShadowScorer:
    """Make the observer, which begins to watch the shadow's folder."""

    def watch(scorer: ShadowScorer) -> ModelWatcher:
        return ModelWatcher(
            options.folder,
            options.uri,
            scorer.serve,
            scorer.count_refusal,
            show_standing=scorer.show_standing,
            trust=options.trust,
            on_missing=scorer.drop,
            role="shadow",
        )

    return ShadowScorer(reporter, options.max_batch_rows, watch)


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    connection_fd, options_text, level = arguments
    configure_logging(level, find_secrets(os.environ))
    options = ShadowOptions.decode(options_text)
    with socket.socket(fileno=int(connection_fd)) as connection:
        run_observer(connection, lambda reporter: make_scorer(options, reporter))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
