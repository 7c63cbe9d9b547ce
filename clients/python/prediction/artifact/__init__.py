"""The storage contract between training and serving: the artifact's messages, name and path."""

from prediction.artifact._seal import is_sealed, seal

__all__ = ["FILE_NAME", "REGISTRY_PATH", "SHA256_TAG", "is_sealed", "seal"]

FILE_NAME = "model.binpb"
"""Name of the artifact's file, which holds one serialised `ModelArtifact`."""

REGISTRY_PATH = f"extra_files/{FILE_NAME}"
"""Path of the artifact in a version of a registered model, where MLflow puts extra files."""

SHA256_TAG = "artifact_sha256"
"""Tag of a model version: SHA-256 of the artifact's file in lower-case hexadecimal digits."""
