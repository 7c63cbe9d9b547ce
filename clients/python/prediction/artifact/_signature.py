"""The signature file of an artifact: an envelope of DSSE, the Dead Simple Signing Envelope 1.0.

::

    {"payloadType": PAYLOAD_TYPE, "payload": BASE64, "signatures": [{"keyid": ID, "sig": BASE64}]}

    payload: {"registered_model": NAME, "files": {"model.binpb": SHA256}}

This module has no cryptography: the trainer signs, and the server verifies.
"""

import base64
import hashlib
import json
from collections.abc import Mapping

# It separates these signatures from any other use of the same key.
PAYLOAD_TYPE = "application/vnd.prediction-server.model+json"
_SHOWN_DIGITS = 16


def make_payload(registered_model: str, files: Mapping[str, bytes]) -> bytes:
    """Return the statement to sign: which files a version of a registered model has.

    Parameters
    ----------
    registered_model : str
        Name of the registered model.
    files : mapping of str to bytes
        Content of each file that the server reads, by name.

    Returns
    -------
    bytes
        The statement, the same for the same arguments.
    """
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    statement = {"registered_model": registered_model, "files": digests}
    return json.dumps(statement).encode()


def encode_for_signing(payload: bytes) -> bytes:
    """Return the bytes that a key signs: DSSE's pre-authentication encoding of a payload."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def make_envelope(payload: bytes, signatures: Mapping[str, bytes]) -> bytes:
    """Return the content of the signature file.

    Parameters
    ----------
    payload : bytes
        The statement.
    signatures : mapping of str to bytes
        Signatures of `encode_for_signing(payload)`, by the name of the key.

    Returns
    -------
    bytes
        JSON in UTF-8.
    """
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {"keyid": name, "sig": base64.b64encode(signature).decode()}
            for name, signature in signatures.items()
        ],
    }
    return json.dumps(envelope, indent=2).encode() + b"\n"


def name_key(public_key: bytes) -> str:
    """Return a short name of a public key of 32 bytes, to tell keys apart in messages."""
    return hashlib.sha256(public_key).hexdigest()[:_SHOWN_DIGITS]
