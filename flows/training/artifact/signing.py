"""Signs an artifact, so that a server may refuse what no trusted key has signed.

The key comes from the environment, where neither Metaflow nor MLflow keeps it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from prediction.artifact import (
    FILE_NAME,
    encode_for_signing,
    make_envelope,
    make_payload,
    name_key,
)
from training.errors import SigningError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_VARIABLE = "MODEL_SIGNING_KEY"
_PEM_BEGIN = "-----BEGIN "
_MAX_KEY_BYTES = 16 * 1024


class Signer:
    """Signs with one private key, which it never shows.

    Parameters
    ----------
    key : Ed25519PrivateKey
        The key.
    """

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key
        self.key_name = name_key(key.public_key().public_bytes_raw())

    def __reduce__(self) -> str:
        # Metaflow pickles what a step keeps.
        raise SigningError("a private key cannot be stored; keep it in a local name")

    def sign(self, model_name: str, artifact: bytes) -> bytes:
        """Sign an artifact as a version of one registered model.

        Parameters
        ----------
        model_name : str
            Name of the registered model.
        artifact : bytes
            Content of the artifact's file.

        Returns
        -------
        bytes
            Content of the signature file, the same for the same arguments.
        """
        payload = make_payload(model_name, {FILE_NAME: artifact})
        signature = self._key.sign(encode_for_signing(payload))
        return make_envelope(payload, {self.key_name: signature})


def find_signer(environ: Mapping[str, str]) -> Signer | None:
    """Return the signer of an environment.

    Parameters
    ----------
    environ : mapping of str to str
        Environment. ``MODEL_SIGNING_KEY`` is the path of a private key of Ed25519 in PEM. In a pod,
        where a Secret becomes a variable, it may be the PEM text itself.

    Returns
    -------
    Signer or None
        None if the variable is not set, or empty.

    Raises
    ------
    SigningError
        If the key cannot be used.
    """
    value = environ.get(KEY_VARIABLE, "")
    if not value:
        return None
    is_text = value.lstrip().startswith(_PEM_BEGIN)
    return Signer(_parse(value.encode() if is_text else _read(value)))


def describe_signer(signer: Signer | None) -> str:
    """Return a line for the user: which key has signed, or that none has."""
    if signer is None:
        return f"The model is not signed; {KEY_VARIABLE} names no key"
    return f"The model is signed by the key {signer.key_name}"


def _read(path: str) -> bytes:
    # No message quotes the value: somebody may have given the key itself, without its first line.
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_KEY_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise SigningError(
            f"the file that {KEY_VARIABLE} names cannot be read: {reason}"
        ) from None


def _parse(pem: bytes) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningError(
            f"{KEY_VARIABLE} is no private key of Ed25519 in PEM without a password; make one: "
            "openssl genpkey -algorithm ed25519 -out signing.pem"
        ) from None
    return key
