"""The server's settings: groups by subject, with names, types, defaults, bounds and help.

`setting.py` says how a flag, its variable, its bounds and its error belong together.
`all_settings.py` puts the groups together, and `command_line.py` reads them. Nothing here reads the
environment itself: the caller passes it in.
"""

from grpc_server.settings.all_settings import Settings
from grpc_server.settings.calls import LANES
from grpc_server.settings.command_line import (
    CommandLine,
    describe,
    parse_command_line,
)

__all__ = ["LANES", "CommandLine", "Settings", "describe", "parse_command_line"]
