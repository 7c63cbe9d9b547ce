"""Serves the Open Inference Protocol v2, beside prediction.v1, with the same model."""
