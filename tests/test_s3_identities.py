"""The identities of the local overlay's S3, on a real server: each reaches its own bucket alone."""

from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ClientError

from s3_support import client_of, s3_server
from support import ROOT

IDENTITIES = ROOT / "k8s/overlays/local/s3/identities.json"
BUCKETS = ("mlflow", "metaflow", "data")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder, identities=IDENTITIES, key="setup") as url:
        setup = client_of(url, "setup")
        for bucket in BUCKETS:
            if bucket != "metaflow":  # made by the fixture
                setup.create_bucket(Bucket=bucket)
            setup.put_object(Bucket=bucket, Key="there", Body=b"1")
        yield url


def may(call: Callable[..., object], **arguments: object) -> bool:
    """Return whether S3 allows a call; an error of another kind fails the test."""
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "403"), error
        return False
    return True


@pytest.mark.parametrize(
    ("identity", "reads", "writes"),
    [
        ("models", {"mlflow"}, {"mlflow"}),
        ("training", {"metaflow", "data"}, {"metaflow"}),
        ("data", {"data"}, {"data"}),
        ("serving", {"mlflow"}, set()),
    ],
)
def test_an_identity_reaches_its_own_bucket_alone(
    endpoint: str, identity: str, reads: set[str], writes: set[str]
) -> None:
    client = client_of(endpoint, identity)
    own = f"of-{identity}"
    for bucket in BUCKETS:
        may_read, may_write = bucket in reads, bucket in writes
        assert may(client.get_object, Bucket=bucket, Key="there") == may_read
        assert may(client.list_objects_v2, Bucket=bucket) == may_read
        assert may(client.put_object, Bucket=bucket, Key=own, Body=b"1") == may_write
        assert may(client.delete_object, Bucket=bucket, Key=own) == may_write


def test_nobody_but_the_setup_makes_buckets_or_opens_them(endpoint: str) -> None:
    policy = '{"Version": "2012-10-17", "Statement": []}'
    for identity in ("models", "training", "data", "serving"):
        client = client_of(endpoint, identity)
        assert not may(client.create_bucket, Bucket=f"new-{identity}")
        assert not may(client.delete_bucket, Bucket="mlflow")
        assert not may(client.put_bucket_policy, Bucket="metaflow", Policy=policy)
    assert may(client_of(endpoint, "setup").create_bucket, Bucket="new")


def test_an_unknown_key_reaches_nothing(endpoint: str) -> None:
    with pytest.raises(ClientError, match="InvalidAccessKeyId|AccessDenied"):
        client_of(endpoint, "stranger").list_objects_v2(Bucket="mlflow")
