"""Calls over gRPC: decoding, computing, replying, and their errors."""
