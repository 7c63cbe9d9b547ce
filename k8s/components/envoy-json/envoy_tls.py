"""Prints the Envoy configuration of ./tls: that of envoy.yaml, with TLS on both sides.

Knows where TLS goes, and nothing of what Envoy serves. `make envoy-tls` writes the file, which is
committed for kustomize to read; `make drift` fails when it is not that of envoy.yaml.
"""

import sys
from pathlib import Path

CONFIGURATION = Path(__file__).with_name("envoy.yaml")

_HEADER = """\
# Written by `make envoy-tls` from ../envoy.yaml and envoy_tls.py, which are the files to change.
# Envoy asks for names before it reads certificates from files.
node: {id: prediction-server, cluster: prediction-server}
"""

# The files of SDS hold the paths of certificate and CAs: Envoy reads a renewed Secret by itself.
_CONTEXT = """\
common_tls_context:
  alpn_protocols: [{protocols}]
  tls_params: {{tls_minimum_protocol_version: TLSv1_2}}
  tls_certificate_sds_secret_configs:
    - name: certificate
      sds_config: {{path_config_source: {{path: /etc/envoy/sds-certificate.yaml}}}}
  {validation}"""

# Whoever answers on the server's port has to have the server's name in its certificate.
_VALIDATED_NAME = """\
combined_validation_context:
    default_validation_context:
      match_typed_subject_alt_names:
        - {san_type: DNS, matcher: {exact: prediction-server}}
    validation_context_sds_secret_config:
      name: authority
      sds_config: {path_config_source: {path: /etc/envoy/sds-authority.yaml}}
sni: prediction-server"""

_VALIDATED = """\
validation_context_sds_secret_config:
    name: authority
    sds_config: {path_config_source: {path: /etc/envoy/sds-authority.yaml}}
require_client_certificate: true"""

# Kubernetes' probes bring no certificate. The path is all that this port has.
_MANAGER = (
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_HEALTH_LISTENER = """\
    - name: http-health
      address: {socket_address: {address: 0.0.0.0, port_value: 8001}}
      per_connection_buffer_limit_bytes: 32768
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/{MANAGER}
                stat_prefix: http_health
                request_headers_timeout: 5s
                stream_idle_timeout: 5s
                route_config:
                  name: http_health
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        - match: {path: /health/envoy}
                          direct_response: {status: 200}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"""


def _indented(text: str, columns: int) -> str:
    return "".join(
        " " * columns + line + "\n" if line else "\n" for line in text.splitlines()
    )


def _socket(side: str, context: str, columns: int) -> str:
    """Return a transport socket of TLS: `side` is Upstream or Downstream."""
    name = f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext"
    head = "transport_socket:\n  name: envoy.transport_sockets.tls\n  typed_config:\n"
    body = f'"@type": {name}\n{context}'
    return _indented(head, columns) + _indented(body, columns + 4)


def _replace(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise ValueError(
            f"{old!r} is not exactly once in envoy.yaml; adapt envoy_tls.py to its new form"
        )
    return text.replace(old, new)


def add_tls(configuration: str) -> str:
    """Add TLS to a configuration.

    Parameters
    ----------
    configuration : str
        Content of envoy.yaml.

    Returns
    -------
    str
        The same with TLS towards callers and the server, and a plain port for probes.

    Raises
    ------
    ValueError
        If the configuration has not exactly one place for each addition.
    """
    downstream = _CONTEXT.format(protocols="h2, http/1.1", validation=_VALIDATED)
    chains = "      filter_chains:\n        - filters:\n"
    secured = chains.replace("- filters:", "-")
    secured = secured.rstrip("\n") + _socket("Downstream", downstream, 10).lstrip()
    # The first key stands behind the dash.
    secured = secured.replace("-transport_socket", "- transport_socket")
    text = _replace(configuration, chains, secured + "          filters:\n")
    for cluster, protocol in (("grpc", "h2"), ("http", "http/1.1")):
        head = f"    - name: {cluster}\n      type: STATIC\n"
        upstream = _CONTEXT.format(protocols=protocol, validation=_VALIDATED_NAME)
        text = _replace(text, head, head + _socket("Upstream", upstream, 6))
    listeners = "static_resources:\n  listeners:\n"
    health = _HEALTH_LISTENER.replace("{MANAGER}", _MANAGER)
    return _HEADER + _replace(text, listeners, listeners + health)


if __name__ == "__main__":
    sys.stdout.write(add_tls(CONFIGURATION.read_text()))
