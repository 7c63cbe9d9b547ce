"""A real S3 server of the tests' own: SeaweedFS on free ports of the loopback address."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from support import wait_for

KEY = "local-only"
PORTS = ("master", "volume", "filer", "s3")
BUCKET = "metaflow"


def free_ports(number: int) -> list[int]:
    """Return ports on which nothing listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def environment_of(endpoint: str) -> dict[str, str]:
    """Return the variables that make Metaflow store its data in the server's bucket."""
    credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY}
    return {
        **credentials,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DATASTORE_SYSROOT_S3": f"s3://{BUCKET}/runs",
        "METAFLOW_S3_ENDPOINT_URL": endpoint,
    }


@contextmanager
def s3_server(
    folder: Path, identities: Path | None = None, key: str = KEY
) -> Iterator[str]:
    """Run the server with one bucket, and give its URL.

    With a file of `identities`, `key` is the access key of one that may make buckets.
    """
    ports = free_ports(2 * len(PORTS))
    flags = [
        f"-{name}.{kind}={ports.pop()}"
        for name in PORTS
        for kind in ("port", "port.grpc")
    ]
    (endpoint,) = (
        f"http://127.0.0.1:{flag.rpartition('=')[2]}"
        for flag in flags
        if flag.startswith("-s3.port=")
    )
    flags += ["-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-dir={folder}"]
    # Without it, the server reports its use to its makers.
    flags += ["-ip=127.0.0.1", "-master.telemetry=false", "-volume.max=32"]
    flags += ["-master.volumeSizeLimitMB=64"]
    if identities is not None:
        flags.append(f"-s3.config={identities}")
    program = str(Path(sys.executable).parent / "weed")
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [program, "server", *flags],
            cwd=folder,
            env=os.environ | environment_of(endpoint),
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: process.poll() is not None or makes_bucket(endpoint, key))
        assert process.poll() is None, (folder / "log").read_text()
        yield endpoint
    finally:
        # Killed, because an orderly end takes half a minute.
        process.kill()
        process.wait()


def client_of(endpoint: str, key: str = KEY) -> "boto3.client":
    """Return a client of the server, with the identity of an access key."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=KEY,
        region_name="us-east-1",
    )


def makes_bucket(endpoint: str, key: str = KEY) -> bool:
    """Try to make the bucket; the server may not be up yet."""
    try:
        client_of(endpoint, key).create_bucket(Bucket=BUCKET)
    except (BotoCoreError, ClientError):
        return False
    return True


def list_keys(endpoint: str) -> list[str]:
    """Return the keys of the objects in the bucket."""
    pages = client_of(endpoint).get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
