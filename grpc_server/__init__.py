"""Serves one registered model over gRPC; see `python -m grpc_server --help`."""
