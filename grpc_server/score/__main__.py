"""`python -m grpc_server.score MODEL IN OUT`: scores a table offline."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from grpc_server.errors import StartupError
from grpc_server.logs import configure_logging
from grpc_server.score.manifest import tell_end
from grpc_server.score.options import parse_options
from grpc_server.score.program import make_job
from grpc_server.score.running import run_job
from prediction_common.secrets import find_secrets

_log = logging.getLogger("grpc_server.score")


def _say(event: str, fields: dict[str, Any]) -> None:
    _log.info(event, extra={"fields": fields})


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    options = parse_options(arguments)
    configure_logging("INFO", find_secrets(os.environ))
    try:
        manifest = run_job(make_job(options, _say), _say)
    except StartupError as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("not enough memory; fewer --workers or --part-rows need less")
    except OSError as error:
        return _fail(
            f"{options.output} cannot be written: {error}; score again to go on"
        )
    _say("complete", tell_end(manifest))
    return 0


def _fail(reason: str) -> int:
    _log.error("not complete", extra={"fields": {"reason": reason}})
    return 1


if __name__ == "__main__":
    # Ctrl-C and SIGTERM end the program at once: a run that is cut short can go on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
