"""The certificate, the key and the client CA of TLS: read from files, checked, and read again.

Knows no gRPC, because the supervisor's HTTP port uses it too.
"""

import logging
import os
import re
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from grpc_server.errors import CertificateError
from grpc_server.followed_files import FollowedFiles, read_bounded

_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_BLOCK = re.compile(_BEGIN_CERTIFICATE + b".*?-----END CERTIFICATE-----", re.DOTALL)
_END_KEY = b"PRIVATE KEY-----"
# Numbers of OpenSSL's verification errors.
_NOT_YET_VALID, _EXPIRED = 9, 10
# A certificate chain has a few KiB. A larger file is a mistake, and would cost memory.
_MAX_BYTES = 1024 * 1024
_N_HANDSHAKE_TURNS = 6

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Names of the files.

    Parameters
    ----------
    certificate : Path
        PEM, the server's certificate first, then those of the CAs between it and the root.
    key : Path
        PEM, the private key without a password.
    client_ca : Path or None
        PEM, the CAs of clients; None accepts clients without a certificate.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def from_settings(
        cls, certificate: Path | None, key: Path | None, client_ca: Path | None
    ) -> "TlsFiles | None":
        """Return the files that the settings name, None for plain text.

        Raises
        ------
        CertificateError
            If one of the flags needs another one.
        """
        if certificate is not None and key is not None:
            return cls(certificate, key, client_ca)
        if certificate is key is client_ca is None:
            return None
        missing = "--tls-cert" if certificate is None else "--tls-key"
        raise CertificateError(
            f"TLS needs both --tls-cert and --tls-key; give {missing} FILE too"
        )

    def paths(self) -> tuple[Path, ...]:
        """Return the files in use."""
        ca = () if self.client_ca is None else (self.client_ca,)
        return (self.certificate, self.key, *ca)


@dataclass(frozen=True, slots=True, repr=False)
class Certificates:
    """Contents of the files, which belong together.

    Parameters
    ----------
    chain : bytes
        The server's certificate and its CAs, PEM.
    key : bytes
        Private key, PEM; no text for people contains it.
    client_ca : bytes or None
        CAs of clients, PEM.
    """

    chain: bytes
    key: bytes
    client_ca: bytes | None

    def context(self) -> ssl.SSLContext:
        """Return a context for the server's side of TLS 1.2 or newer."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load_pair(context, self.chain, self.key)
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=_take_blocks(self.client_ca))
        return context


class CertificateStore:
    """The newest certificates of the files that fit together; for any thread.

    Parameters
    ----------
    files : TlsFiles
        Names of the files.
    count_failure : callable
        Called for each change of the files that was refused.

    Raises
    ------
    CertificateError
        If a file cannot be used.
    """

    def __init__(
        self, files: TlsFiles, count_failure: Callable[[], None] = lambda: None
    ) -> None:
        self._files = FollowedFiles(
            files.paths(), lambda: _load(files), "certificate", count_failure
        )
        _warn_of_readers(files.key)

    @property
    def needs_client(self) -> bool:
        """Whether each client needs a certificate."""
        return self._files.get()[0].client_ca is not None

    def current(self) -> Certificates:
        """Return the certificates for the next connection; the files are read if they changed."""
        return self._files.get()[0]

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection; the same object until the files change."""
        return self._files.get()[1]


def _load(files: TlsFiles) -> tuple[Certificates, ssl.SSLContext]:
    read = read_certificates(files)
    try:
        return read, read.context()
    except OSError as error:
        # There may be no file descriptor left.
        raise CertificateError(
            f"cannot load {files.certificate}: {error.strerror}", may_pass=True
        ) from None


def read_certificates(files: TlsFiles) -> Certificates:
    """Read the files, and check that they work together.

    Raises
    ------
    CertificateError
        If a file is missing, not PEM, expired, encrypted or does not fit the others.
    """
    chain, key = _read(files.certificate), _read(files.key)
    if _BEGIN_CERTIFICATE not in chain:
        raise CertificateError(
            f"{files.certificate} of --tls-cert is not a certificate in PEM; it must contain "
            f"{_BEGIN_CERTIFICATE.decode()!r}"
        )
    if _END_KEY not in key:
        raise CertificateError(
            f"{files.key} of --tls-key is not a private key in PEM; it must contain a line that "
            f"ends with {_END_KEY.decode()!r}"
        )
    client_ca = None
    if files.client_ca is not None:
        client_ca = _read(files.client_ca)
        _check_ca(files.client_ca, client_ca)
    try:
        _check_pair(files, chain, key)
    except ssl.SSLError:
        raise
    except OSError as error:
        # There may be no file descriptor left.
        raise CertificateError(
            f"cannot check {files.certificate}: {error.strerror}", may_pass=True
        ) from None
    return Certificates(chain, key, client_ca)


def _read(path: Path) -> bytes:
    return read_bounded(path, _MAX_BYTES, CertificateError)


def _check_ca(path: Path, content: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cadata=_take_blocks(content))
    except (ssl.SSLError, ValueError):
        raise CertificateError(
            f"{path} of --tls-client-ca holds no certificates in PEM"
        ) from None
    cas = context.get_ca_certs()
    if not cas:
        raise CertificateError(
            f"{path} of --tls-client-ca holds no certificate of a CA"
        )
    now = datetime.now(UTC).timestamp()
    ends = [ssl.cert_time_to_seconds(str(ca["notAfter"])) for ca in cas]
    if max(ends) < now:
        raise CertificateError(
            f"{path} of --tls-client-ca has expired on {_date(max(ends))}"
        )


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _check_pair(files: TlsFiles, chain: bytes, key: bytes) -> None:
    """Check the pair by a handshake in memory with a client that trusts this certificate."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        _load_pair(server, chain, key)
    except _EncryptedKey:
        raise CertificateError(
            f"{files.key} of --tls-key is encrypted; give a key without a password, such as "
            "that of openssl pkey -in KEY -out PLAIN"
        ) from None
    except ssl.SSLError as error:
        raise CertificateError(_explain(files, error)) from None
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=_take_blocks(chain))
        _shake_hands(server, client)
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(_explain_verification(files, error)) from None
    except ssl.SSLError as error:
        raise CertificateError(
            f"{files.certificate} and {files.key} cannot serve TLS: {error.reason}"
        ) from None


def _explain(files: TlsFiles, error: ssl.SSLError) -> str:
    if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return (
            f"{files.key} of --tls-key is not the key of the certificate {files.certificate}; "
            "give the key with which that certificate was made"
        )
    return (
        f"{files.certificate} or {files.key} is cut or altered: "
        f"{error.reason or 'OpenSSL cannot read it as PEM'}"
    )


def _explain_verification(files: TlsFiles, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return (
            f"{files.certificate} of --tls-cert has a certificate that has expired; "
            "renew it"
        )
    if error.verify_code == _NOT_YET_VALID:
        return (
            f"{files.certificate} of --tls-cert has a certificate that is not valid yet; "
            "check this machine's clock"
        )
    return f"{files.certificate} of --tls-cert cannot serve TLS: {error.verify_message}"


def _take_blocks(content: bytes) -> str:
    """Return the certificates without remarks, which may be in any alphabet."""
    blocks = _BLOCK.findall(content)
    return b"\n".join(blocks).decode("ascii", "replace")


class _EncryptedKey(Exception):
    """OpenSSL asks for the key's password."""


def _ask_password() -> str:
    raise _EncryptedKey


def _load_pair(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Load a pair from memory: the files may change between two readings of them.

    OpenSSL reads files only, so both go through a file that exists in memory.
    """
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(key + b"\n" + chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_ask_password)
    finally:
        os.close(descriptor)


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(_N_HANDSHAKE_TURNS):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def _warn_of_readers(key: Path) -> None:
    """Say that other users can read the key, unless the file has gone meanwhile."""
    try:
        mode = key.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IROTH:
        fields = {"file": str(key), "mode": f"{stat.S_IMODE(mode):04o}"}
        _log.warning("every user can read the private key", extra={"fields": fields})
