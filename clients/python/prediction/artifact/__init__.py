"""The storage contract between training and serving: the artifact's messages, name and path."""

from prediction.artifact._seal import is_sealed, seal
from prediction.artifact._signature import (
    PAYLOAD_TYPE,
    encode_for_signing,
    make_envelope,
    make_payload,
    name_key,
)

__all__ = [
    "FILE_NAME",
    "PAYLOAD_TYPE",
    "REGISTRY_PATH",
    "SHA256_TAG",
    "SIGNATURE_FILE_NAME",
    "SIGNATURE_REGISTRY_PATH",
    "SIGNATURE_SHA256_TAG",
    "encode_for_signing",
    "is_sealed",
    "make_envelope",
    "make_payload",
    "name_key",
    "seal",
]

FILE_NAME = "model.binpb"
"""Name of the artifact's file, which holds one serialised `ModelArtifact`."""

REGISTRY_PATH = f"extra_files/{FILE_NAME}"
"""Path of the artifact in a version of a registered model, where MLflow puts extra files."""

SIGNATURE_FILE_NAME = "signature.json"
"""Name of the file with the artifact's signatures; a version that is not signed has none."""

SIGNATURE_REGISTRY_PATH = f"extra_files/{SIGNATURE_FILE_NAME}"
"""Path of the signatures in a version of a registered model."""

SIGNATURE_SHA256_TAG = "signature_sha256"
"""Tag of a signed version: SHA-256 of the signatures' file in lower-case hexadecimal digits."""

SHA256_TAG = "artifact_sha256"
"""Tag of a model version: SHA-256 of the artifact's file in lower-case hexadecimal digits."""
