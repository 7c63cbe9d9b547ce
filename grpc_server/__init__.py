"""Serves one registered model over gRPC; see `python -m grpc_server --help`."""

__version__ = "0.1.0"
