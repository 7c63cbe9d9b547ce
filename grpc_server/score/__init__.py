"""Scores tables offline: `python -m grpc_server.score MODEL IN OUT`.

The answers equal the server's in every bit, because the same code of `grpc_server.model` computes
them. Nothing that serves calls imports this package: pyarrow takes time and memory.
"""
