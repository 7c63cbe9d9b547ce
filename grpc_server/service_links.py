"""Variables that Kubernetes sets in each container for every Service: they are no settings.

A Service named "prediction-predictor" gives PREDICTION_PREDICTOR_PORT=tcp://10.0.0.7:80 and others
like it, and one named "prediction" even gives PREDICTION_PORT. A link is known by its name and its
value together, so that a misspelled setting is not taken for one.
"""

import ipaddress
import re
from collections.abc import Mapping

_URL = re.compile(r"(tcp|udp|sctp)://(?P<host>\S+):(?P<port>\d{1,5})", re.ASCII)
# The last part of a name and, for all but the addresses of a Service, what its value looks like.
_PORT_OF_SERVICE = re.compile(r".*_SERVICE_PORT(_[A-Z0-9_]+)?", re.ASCII)
_URL_OF_SERVICE = re.compile(r".*_PORT(_\d+_(TCP|UDP|SCTP))?", re.ASCII)
_PROTOCOL = re.compile(r".*_PORT_\d+_(?P<name>TCP|UDP|SCTP)_PROTO", re.ASCII)
_PORT = re.compile(r".*_PORT_(?P<number>\d+)_(TCP|UDP|SCTP)_PORT", re.ASCII)
_ADDRESS = re.compile(r".*(_SERVICE_HOST|_PORT_\d+_(TCP|UDP|SCTP)_ADDR)", re.ASCII)


def drop_links(environ: Mapping[str, str], prefix: str) -> tuple[dict[str, str], int]:
    """Leave out the service links among the variables of a prefix.

    Parameters
    ----------
    environ : mapping of str to str
        An environment.
    prefix : str
        Beginning of the names to look at, such as "PREDICTION_".

    Returns
    -------
    kept : dict of str to str
        The variables of the prefix that are no service links.
    n_links : int
        Number of the others.
    """
    named = {name: text for name, text in environ.items() if name.startswith(prefix)}
    kept = {name: text for name, text in named.items() if not is_link(name, text)}
    return kept, len(named) - len(kept)


def is_link(name: str, text: str) -> bool:
    """Tell whether a variable is a service link.

    Parameters
    ----------
    name : str
        Name of the variable.
    text : str
        Its value.

    Returns
    -------
    bool
        Whether Kubernetes gives the variables of Services such names and such values.
    """
    if _ADDRESS.fullmatch(name):
        return _is_address(text)
    if found := _PROTOCOL.fullmatch(name):
        return text == found["name"].lower()
    if found := _PORT.fullmatch(name):
        return text == found["number"]
    if _PORT_OF_SERVICE.fullmatch(name):
        return _is_port(text) or _is_url(text)
    return _URL_OF_SERVICE.fullmatch(name) is not None and _is_url(text)


def _is_url(text: str) -> bool:
    found = _URL.fullmatch(text)
    return found is not None and _is_address(found["host"]) and _is_port(found["port"])


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return re.fullmatch(r"\d{1,5}", text, re.ASCII) is not None and int(text) <= 65535
