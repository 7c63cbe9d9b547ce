"""Calls over gRPC: from the wire to the model and back."""
