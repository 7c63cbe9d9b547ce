"""Opens the files that the security settings name."""

from collections.abc import Callable
from ipaddress import ip_address

from grpc_server.access import Access, Attempts
from grpc_server.callers import CallersFile
from grpc_server.certificates import CertificateStore, TlsFiles
from grpc_server.errors import SettingsError
from grpc_server.settings import Settings


def _nothing() -> None:
    """Count nothing: the supervisor's own failures are in its log, its processes count theirs."""


def open_certificates(
    settings: Settings, count_failure: Callable[[], None] = _nothing
) -> CertificateStore | None:
    """Read the files of TLS, if the settings name any.

    Raises
    ------
    CertificateError
        If a file cannot be used.
    """
    files = TlsFiles.from_settings(
        settings.tls_cert, settings.tls_key, settings.tls_client_ca
    )
    return None if files is None else CertificateStore(files, count_failure)


def open_access(
    settings: Settings, count_failure: Callable[[], None] = _nothing
) -> Access:
    """Read the files of callers, if the settings name any.

    Raises
    ------
    SettingsError
        If tokens would travel in plain text, or names of certificates without certificates.
    CallersError
        If a file cannot be used.
    """
    tokens = identities = None
    if settings.allowed_identities is not None:
        if settings.tls_client_ca is None:
            raise SettingsError(
                "--allowed-identities needs certificates of clients; give --tls-client-ca FILE"
            )
        path = settings.allowed_identities
        identities = CallersFile.of_identities(path, count_failure)
    if settings.tokens_file is not None:
        _check_tokens_are_hidden(settings)
        tokens = CallersFile.of_tokens(settings.tokens_file, count_failure)
    return Access(tokens, identities, Attempts())


def _check_tokens_are_hidden(settings: Settings) -> None:
    if settings.tls_cert is not None or settings.tokens_without_tls:
        return
    if not _is_loopback(settings.host):
        raise SettingsError(
            f"tokens would travel in plain text to {settings.host}; give --tls-cert and --tls-key, "
            "or --tokens-without-tls if a proxy on this machine or network hides them"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
