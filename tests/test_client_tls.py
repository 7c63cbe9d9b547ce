"""The clients over TLS, against the real server; and a real grpcurl."""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tls_support import Authority

from grpc_server.server import PredictionServer
from prediction import AsyncPredictionClient, PredictionError
from prediction.__main__ import main
from prediction._credentials import make_credentials

from support import running_server

TOKEN = "s3cret-of-billing"
FEATURES = ["--features", "1,3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = Authority()
    authority.issue().write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    client = authority.issue(x509.DNSName("caller"))
    (tmp_path / "client.crt").write_bytes(client.certificate)
    (tmp_path / "client.key").write_bytes(client.key)
    (tmp_path / "token").write_text(TOKEN + "\n")
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    (tmp_path / "tokens").write_text(f"billing sha256:{digest} predict,describe\n")
    (tmp_path / "other").write_bytes(Authority("other").certificate)
    return tmp_path


@pytest.fixture
def server(model_dir: Path, folder: Path) -> Iterator[PredictionServer]:
    with running_server(
        model_dir,
        tls_cert=folder / "tls.crt",
        tls_key=folder / "tls.key",
        tls_client_ca=folder / "ca.crt",
        tokens_file=folder / "tokens",
    ) as server:
        yield server


def predict(server: PredictionServer, *flags: str | Path) -> int:
    # One address: of two, the error may name the one that nobody listens on.
    target = f"127.0.0.1:{server.port}"
    arguments = ["predict", *FEATURES, "--target", target, *map(str, flags)]
    return main([*arguments, "--timeout-seconds", "3"])


def test_certificate_and_token_get_in(
    server: PredictionServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tls: list[str | Path] = ["--tls", "--ca", folder / "ca.crt"]
    pair: list[str | Path] = [
        "--cert",
        folder / "client.crt",
        "--key",
        folder / "client.key",
    ]
    assert predict(server, *tls, *pair, "--token-file", folder / "token") == 0
    assert '"label"' in capsys.readouterr().out
    assert predict(server, *tls, *pair) == 1
    assert "UNAUTHENTICATED: the call has no token" in capsys.readouterr().err
    assert predict(server, "--tls", "--ca", folder / "other", *pair) == 1
    error = capsys.readouterr().err
    assert "certificate is not trusted" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--ca", "ca.crt"], "give --tls too"),
        (["--tls", "--ca", "token"], "token is not PEM"),
        (["--tls", "--ca", "missing"], "cannot read missing: No such file"),
        (["--tls", "--cert", "client.crt"], "needs its key"),
        (["--tls", "--token-file", "ca.crt"], "ca.crt holds no token"),
    ],
)
def test_wrong_files_are_said(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    what: str,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["predict", *FEATURES, *flags]) == 2
    assert what in capsys.readouterr().err


def test_the_asynchronous_client_gets_in_with_certificate_and_token(
    server: PredictionServer, folder: Path
) -> None:
    async def call(token_file: Path | None) -> str:
        credentials = make_credentials(
            folder / "ca.crt", folder / "client.crt", folder / "client.key", token_file
        )
        target = f"localhost:{server.port}"
        async with AsyncPredictionClient(target, credentials=credentials) as client:
            return (await client.predict([1.0, 3.0])).label

    assert asyncio.run(call(folder / "token")) == "1"
    with pytest.raises(PredictionError, match="the call has no token") as caught:
        asyncio.run(call(None))
    assert caught.value.reason == "UNAUTHENTICATED"


def test_grpcurl_gets_in_with_certificate_and_token(
    server: PredictionServer, folder: Path
) -> None:
    command = [str(Path(sys.executable).parent / "grpcurl"), "-cacert", "ca.crt"]
    command += ["-cert", "client.crt", "-key", "client.key"]
    command += ["-H", f"authorization: Bearer {TOKEN}", "-d", '{"features": [1, 3]}']
    command += [f"localhost:{server.port}", "prediction.v1.PredictionService/Predict"]
    answer = subprocess.check_output(command, cwd=folder, text=True, timeout=30)
    assert '"label"' in answer
    del command[7:9]
    refused = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=30
    )
    assert refused.returncode != 0
    assert "Unauthenticated" in refused.stderr
