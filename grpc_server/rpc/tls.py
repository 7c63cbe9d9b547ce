"""TLS of the gRPC port, with certificates that change while it serves."""

import grpc

from grpc_server.certificates import Certificates, CertificateStore


def make_credentials(store: CertificateStore) -> grpc.ServerCredentials:
    """Return credentials that ask `store` at each new connection.

    Open connections keep the certificate of their handshake, so that a renewal fails no call.

    Parameters
    ----------
    store : CertificateStore
        The newest certificates.

    Returns
    -------
    grpc.ServerCredentials
        Credentials of TLS 1.2 or newer.
    """
    first = store.current()
    given = first

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        newest = store.current()
        if newest is given:
            return None
        given = newest
        return _configuration(newest)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first),
        fetch,  # type: ignore[arg-type]  # None means no change, which the stubs do not know
        require_client_authentication=store.needs_client,
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    pair = (certificates.key, certificates.chain)
    return grpc.ssl_server_certificate_configuration([pair], certificates.client_ca)
