"""Checks that a trusted key has signed a model, before anything else reads the model's files.

::

    signature.json ── a valid signature of a trusted key ──> payload ── names the model
                                                                └────── has the digest of each file

`cryptography` is imported within functions: a server without trusted keys does not need it.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from grpc_server.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    ArtifactUnverified,
)
from grpc_server.model.artifact_limits import MAX_ARTIFACT_BYTES
from grpc_server.model.files import read_file
from grpc_server.model.source import SOURCE_FILE_NAME, ModelSource, read_source
from grpc_server.trust import Trust
from prediction.artifact import (
    FILE_NAME,
    PAYLOAD_TYPE,
    SIGNATURE_FILE_NAME,
    encode_for_signing,
    make_envelope,
    name_key,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_SIGNATURE_BYTES = 64 * 1024
_MAX_KEYS_BYTES = 64 * 1024
_MAX_KEYS = 32
_MAX_SIGNATURES = 8
_KNOWN_FILES = {FILE_NAME, SIGNATURE_FILE_NAME, SOURCE_FILE_NAME}
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_CURE = "a training run signs with MODEL_SIGNING_KEY"


def check_signature(folder: Path, artifact: bytes, trust: Trust) -> str:
    """Check that a trusted key has signed a model's file.

    Parameters
    ----------
    folder : Path
        Holds the signature file, and no file that the signature does not cover.
    artifact : bytes
        Content of the model's file.
    trust : Trust
        Accepted keys, and the accepted model.

    Returns
    -------
    str
        Name of the registered model, as signed.

    Raises
    ------
    ArtifactUnverified
        If a signature is missing or unreadable, no trusted key has made one, or it is of other
        files or of another model. The message does not name the folder.
    """
    keys = read_keys(trust.keys_file)
    _check_names(folder)
    payload, signatures = _open_envelope(_read_envelope(folder))
    _check_signed(payload, signatures, keys, trust.keys_file)
    name, files = _read_payload(payload)
    actual = {FILE_NAME: hashlib.sha256(artifact).hexdigest()}
    if files != actual:
        raise ArtifactUnverified(
            f"{SIGNATURE_FILE_NAME} is of other files: it was made for {_show_files(files)}, but "
            f"here is {_show_files(actual)}"
        )
    if trust.model_name not in ("", name):
        raise ArtifactUnverified(
            f"{SIGNATURE_FILE_NAME} is of the model {name[:80]!r}, not of {trust.model_name!r}"
        )
    return name


def check_origin(source: ModelSource, signed_name: str) -> None:
    """Check that the source file names the model that was signed.

    Raises
    ------
    ArtifactUnverified
        If it names another.
    """
    if source.registered_model not in ("", signed_name):
        raise ArtifactUnverified(
            f"{SIGNATURE_FILE_NAME} is of the model {signed_name[:80]!r}, but {SOURCE_FILE_NAME} "
            f"names {source.registered_model[:80]!r}"
        )


def check_age(path: Path, create_time: datetime, trust: Trust) -> None:
    """Check that a model is not older than the trust in models.

    Parameters
    ----------
    path : Path
        The model's file.
    create_time : datetime
        When it was made, as its signed content says.
    trust : Trust
        Says since when models are accepted.

    Raises
    ------
    ArtifactUnverified
        If it was made before.
    """
    since = datetime.fromtimestamp(trust.since_seconds, UTC)
    if create_time < since:
        raise ArtifactUnverified(
            f"{path}: the model was made at {create_time:%Y-%m-%d %H:%M:%S} UTC; models since "
            f"{since:%Y-%m-%d %H:%M:%S} UTC are accepted, by --trusted-since"
        )


def check_folder(folder: Path, trust: Trust) -> None:
    """Check the signature of the model in a folder, without loading it.

    Raises
    ------
    ArtifactError
        If the model is missing, or no trusted key has signed it.
    """
    content = read_file(folder / FILE_NAME, MAX_ARTIFACT_BYTES)
    name = check_signature(folder, content, trust)
    check_origin(read_source(folder, content), name)


def read_keys(path: Path) -> "Mapping[str, Ed25519PublicKey]":
    """Read the trusted keys.

    Parameters
    ----------
    path : Path
        File of one or more public keys of Ed25519 in PEM; text between them is ignored.

    Returns
    -------
    mapping of str to Ed25519PublicKey
        The keys by name.

    Raises
    ------
    ArtifactUnverified
        If the file is missing, too large, or has anything but public keys of Ed25519.
    """
    try:
        content = read_file(path, _MAX_KEYS_BYTES)
    except ArtifactMissing:
        raise ArtifactUnverified(f"no trusted keys can be read at {path}") from None
    except ArtifactCorrupt as error:
        raise ArtifactUnverified(f"trusted keys: {error}") from None
    blocks = list(_PEM.finditer(content))
    if not 0 < len(blocks) <= _MAX_KEYS:
        raise ArtifactUnverified(
            f"{path} has {len(blocks)} keys in PEM; 1 to {_MAX_KEYS} trusted keys are allowed"
        )
    keys = [_read_key(block, f"key {n} of {path}") for n, block in enumerate(blocks, 1)]
    return {name_key(key.public_bytes_raw()): key for key in keys}


def _read_key(block: "re.Match[bytes]", where: str) -> "Ed25519PublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if block[1] != b"PUBLIC KEY":
        raise ArtifactUnverified(
            f"{where} is a {block[1].decode()}; give the public key: openssl pkey -pubout"
        )
    try:
        key = load_pem_public_key(block[0])
    except (ValueError, UnsupportedAlgorithm):
        raise ArtifactUnverified(f"{where} is damaged, or of an unknown kind") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ArtifactUnverified(f"{where} is not of Ed25519, which alone is allowed")
    return key


def _check_names(folder: Path) -> None:
    """Refuse a folder with a file that no signature covers."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                # Kubernetes puts its own entries into the folder of a ConfigMap, such as ..data.
                if entry.name not in _KNOWN_FILES and not entry.name.startswith(".."):
                    raise ArtifactUnverified(
                        f"the folder has {entry.name[:80]!r}, which no signature covers; remove it"
                    )
    except OSError as error:
        raise ArtifactUnverified(
            f"the folder cannot be listed: {error.strerror}"
        ) from None


def _read_envelope(folder: Path) -> bytes:
    try:
        return read_file(folder / SIGNATURE_FILE_NAME, MAX_SIGNATURE_BYTES)
    except ArtifactMissing:
        words = f"it is not signed: there is no {SIGNATURE_FILE_NAME}; {_CURE}"
        raise ArtifactUnverified(words) from None
    except ArtifactError as error:
        raise ArtifactUnverified(str(error)) from None


def _open_envelope(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the payload and its signatures by the name of the key; none is checked yet."""
    try:
        envelope = json.loads(content)
        kind = envelope["payloadType"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        given = envelope["signatures"]
        signatures = {
            str(one["keyid"]): base64.b64decode(one["sig"], validate=True)
            for one in given[:_MAX_SIGNATURES]
        }
        is_as_written = make_envelope(payload, signatures) == content
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise ArtifactUnverified(
            f"{SIGNATURE_FILE_NAME} is no envelope of DSSE"
        ) from None
    if kind != PAYLOAD_TYPE:
        raise ArtifactUnverified(
            f"{SIGNATURE_FILE_NAME} is of the kind {str(kind)[:80]!r}, not {PAYLOAD_TYPE!r}"
        )
    if not is_as_written:
        raise ArtifactUnverified(
            f"{SIGNATURE_FILE_NAME} is not as a signer writes it: it was altered"
        )
    return payload, signatures


def _check_signed(
    payload: bytes,
    signatures: Mapping[str, bytes],
    keys: "Mapping[str, Ed25519PublicKey]",
    keys_file: Path,
) -> None:
    """Refuse a payload without a valid signature of any of the keys."""
    message = encode_for_signing(payload)
    known = [name for name in signatures if name in keys]
    if any(_is_valid(keys[name], signatures[name], message) for name in known):
        return
    if known:
        words = f"{SIGNATURE_FILE_NAME} has a wrong signature: it was altered"
        raise ArtifactUnverified(words)
    named = ", ".join(repr(name[:40]) for name in signatures) or "none"
    raise ArtifactUnverified(
        f"{SIGNATURE_FILE_NAME} is signed by no trusted key: it names {named}, and {keys_file} has "
        f"{', '.join(keys)}"
    )


def _is_valid(key: "Ed25519PublicKey", signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _read_payload(payload: bytes) -> tuple[str, dict[str, object]]:
    """Return the model's name and the digests of a payload that a trusted key has signed."""
    try:
        statement = json.loads(payload)
        return str(statement["registered_model"]), dict(statement["files"])
    except (ValueError, TypeError, LookupError, RecursionError):
        words = (
            f"{SIGNATURE_FILE_NAME} has a signed statement that this server cannot read"
        )
        raise ArtifactUnverified(words) from None


def _show_files(files: Mapping[str, object]) -> str:
    shown = [
        f"{name[:80]} of sha256 {str(value)[:64]}" for name, value in files.items()
    ]
    return ", ".join(shown[:3]) or "no file"
