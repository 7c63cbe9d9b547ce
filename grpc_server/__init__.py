"""Serve one registered model over gRPC; `python -m grpc_server --help` says how."""
