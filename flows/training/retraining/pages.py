"""Fetches the page of metrics of a server, within limits of size and time, and parses it."""

import math
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from training.errors import SignalError
from training.text import first_line, shorten

MAX_PAGE_BYTES = 16 * 2**20
MAX_SAMPLES = 200_000
MAX_SECONDS = 20.0
CHUNK_BYTES = 2**16
MAX_SHOWN = 200  # characters of what a page says
# Of all metrics, only these are read.
PREFIX = "prediction_"
VERSION_LABEL = "model_version"


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of a page.

    Parameters
    ----------
    name : str
        Name of the series, such as "prediction_feature_bin_total".
    labels : mapping of str to str
        Its labels.
    value : float
        Finite.
    """

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Page:
    """The samples of one server.

    Parameters
    ----------
    url : str
        Where they come from.
    samples : tuple of Sample
        Those whose names begin with "prediction_".
    """

    url: str
    samples: tuple[Sample, ...]

    def find(self, name: str) -> Iterator[Sample]:
        """Yield the samples of a series."""
        return (sample for sample in self.samples if sample.name == name)

    def of_version(self, version: str) -> "Page":
        """Return the samples of a version, and those that name no version."""
        samples = (
            sample
            for sample in self.samples
            if sample.labels.get(VERSION_LABEL, version) == version
        )
        return Page(self.url, tuple(samples))


@dataclass(frozen=True, slots=True)
class Access:
    """How servers let this program see their metrics.

    Parameters
    ----------
    token : str
        Bearer token of the scope "metrics"; empty for none.
    ca_file : str
        File of the authorities that sign the servers' certificates; empty for the system's.
    seconds : float
        Longest time for a whole page.
    """

    token: str = ""
    ca_file: str = ""
    seconds: float = MAX_SECONDS


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would carry the token to another server."""

    def redirect_request(self, *arguments: object, **options: object) -> None:
        return None


def read_token(path: str) -> str:
    """Return the token in a file; SignalError if there is none."""
    try:
        with Path(path).open(encoding="ascii") as file:
            token = file.read(4097).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SignalError(f"--token-file {path!r}: {first_line(error)}") from None
    if not token or len(token) > 4096 or not token.isprintable() or " " in token:
        raise SignalError(f"--token-file {path!r} holds no token on one line")
    return token


def fetch_page(url: str, access: Access) -> Page:
    """Fetch and parse a page.

    Parameters
    ----------
    url : str
        Such as "http://localhost:8080/metrics".
    access : Access
        How to get at it.

    Returns
    -------
    Page
        Its samples.

    Raises
    ------
    SignalError
        If the page is not reached, too slow, too large or cut off, or is no text of Prometheus.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SignalError(
            f"--metrics {shorten(url, MAX_SHOWN)!r} is no http:// or https:// URL"
        )
    try:
        text = _read(url, access).decode("utf-8")
    except UnicodeDecodeError:
        raise SignalError(f"--metrics {url}: the page is not text in UTF-8") from None
    return parse_page(url, text)


def _read(url: str, access: Access) -> bytes:
    headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
    end = time.monotonic() + access.seconds
    try:
        context = ssl.create_default_context(cafile=access.ca_file or None)
        opener = urllib.request.build_opener(
            # A proxy would see the token, and answer for a server that is near.
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            _NoRedirect(),
        )
        request = urllib.request.Request(url, headers=headers)
        with opener.open(request, timeout=access.seconds) as response:
            return _read_in_time(response, url, end)
    except urllib.error.HTTPError as error:
        error.close()
        raise SignalError(f"--metrics {url} answers {error.code}, not 200") from None
    except (OSError, ValueError, EOFError) as error:
        raise SignalError(
            f"--metrics {url}: {shorten(first_line(error), MAX_SHOWN)}"
        ) from None


def _read_in_time(
    response: "urllib.request._UrlopenRet", url: str, end: float
) -> bytes:
    """Read to the end of a page; a server may send a byte a second, or never stop."""
    parts, size = [], 0
    while chunk := response.read1(CHUNK_BYTES):
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_PAGE_BYTES:
            raise SignalError(
                f"--metrics {url}: the page is larger than {MAX_PAGE_BYTES // 2**20} MiB"
            )
        if time.monotonic() > end:
            raise SignalError(f"--metrics {url}: the page did not end in time")
    if response.length:  # what the server announced, and did not send
        raise SignalError(f"--metrics {url}: the page is cut off")
    return b"".join(parts)


def parse_page(url: str, text: str) -> Page:
    """Parse the text format of Prometheus.

    Parameters
    ----------
    url : str
        Where it comes from, for messages.
    text : str
        The page.

    Returns
    -------
    Page
        Its samples.

    Raises
    ------
    SignalError
        If it is no such text, or a value is not finite, or a series is there twice.
    """
    if text and not text.endswith("\n"):
        raise SignalError(f"--metrics {url}: the page is cut off within a line")
    # Only "\n" ends a line: names in labels may have other marks that Python takes for ends.
    # The parser takes seconds for a line of metrics that this program does not read.
    lines = (line for line in text.split("\n") if line.startswith(PREFIX))
    samples, seen = [], set()
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for one in family.samples:
                samples.append(_check(url, Sample(one.name, one.labels, one.value)))
                seen.add((one.name, tuple(sorted(one.labels.items()))))
                if len(samples) > MAX_SAMPLES:
                    raise SignalError(
                        f"--metrics {url}: the page has more than {MAX_SAMPLES} samples"
                    )
    except (ValueError, IndexError, KeyError, RecursionError) as error:
        raise SignalError(
            f"--metrics {url} is no page of Prometheus' text format: "
            f"{shorten(first_line(error), MAX_SHOWN)}"
        ) from None
    if len(seen) < len(samples):
        raise SignalError(
            f"--metrics {url} has a series twice; give each server's own page"
        )
    return Page(url, tuple(samples))


def _check(url: str, sample: Sample) -> Sample:
    if math.isfinite(sample.value):
        return sample
    raise SignalError(
        f"--metrics {url}: {shorten(sample.name, MAX_SHOWN)} is {sample.value}, which is no count "
        "and no share"
    )
