"""A certificate authority for tests: real keys and certificates, made in a millisecond each."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path) -> None:
        """Replace tls.crt and tls.key, each at once."""
        for name, content in (("tls.crt", self.certificate), ("tls.key", self.key)):
            replace(folder / name, content)


def replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.chmod(0o600)
    os.replace(new, path)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A CA that issues certificates."""

    def __init__(self, name: str = "test CA") -> None:
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._begin(self._name, self._key, -1, 30)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        *names: x509.GeneralName,
        begin_days: float = -1,
        end_days: float = 10,
        password: bytes | None = None,
    ) -> Pair:
        """Issue a certificate; without names, of a server on the loopback address."""
        key = ec.generate_private_key(ec.SECP256R1())
        found = names or (
            x509.DNSName("localhost"),
            x509.IPAddress(ip_address("127.0.0.1")),
        )
        certificate = (
            self._begin(_name("leaf"), key, begin_days, end_days)
            .add_extension(x509.SubjectAlternativeName(found), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        lock: KeySerializationEncryption = NoEncryption()
        if password is not None:
            lock = BestAvailableEncryption(password)
        return Pair(
            certificate.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock),
        )

    def _begin(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        begin_days: float,
        end_days: float,
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begin_days * _DAY)
            .not_valid_after(now + end_days * _DAY)
        )


@contextmanager
def connect_tls(
    port: int, ca: bytes, client: Pair | None = None
) -> Iterator[PredictionServiceStub]:
    """Return a stub over a TLS connection of its own."""
    credentials = grpc.ssl_channel_credentials(
        ca,
        None if client is None else client.key,
        None if client is None else client.certificate,
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield PredictionServiceStub(channel)
