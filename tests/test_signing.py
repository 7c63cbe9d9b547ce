"""Signed models: what no trusted key has signed does not serve, and is not even parsed."""

import base64
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from grpc_server.errors import (
    ArtifactUnverified,
    RegistryError,
    SettingsError,
    StartupError,
)
from grpc_server.model import loading
from grpc_server.model.loading import load_model
from grpc_server.model.signature import MAX_SIGNATURE_BYTES
from grpc_server.model.source import ModelSource
from grpc_server.model.standing import Standing
from grpc_server.model.watch import ModelWatcher
from grpc_server.registry.version_files import SignatureFile
from grpc_server.registry.version_store import VersionStore
from grpc_server.settings import Settings, parse_command_line
from grpc_server.trial_load import try_to_load
from grpc_server.trust import Trust
from prediction.artifact import (
    FILE_NAME,
    SIGNATURE_FILE_NAME,
    encode_for_signing,
    make_envelope,
    make_payload,
    name_key,
    seal,
)
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.artifact.signing import Signer, describe_signer, find_signer
from training.errors import SigningError

from server_process import COMMAND, FREE_PORTS, running
from support import ROOT, wait_for, write_version
from wire import read_metrics, samples

SIGNATURE = SIGNATURE_FILE_NAME


def make_key(number: int = 0) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def write_keys(path: Path, *keys: Ed25519PrivateKey) -> Path:
    """Write the public keys as an operator does, with a remark before each."""
    blocks = [
        b"# a key\n"
        + key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for key in keys
    ]
    path.write_bytes(b"".join(blocks))
    return path


def to_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def sign(folder: Path, key: Ed25519PrivateKey, name: str = "iris") -> Path:
    content = (folder / FILE_NAME).read_bytes()
    (folder / SIGNATURE).write_bytes(Signer(key).sign(name, content))
    return folder


@pytest.fixture
def signed(logistic_artifact: ModelArtifact, tmp_path: Path) -> Path:
    """Version 1 of "iris", signed by key 0."""
    return sign(write_version(tmp_path, logistic_artifact, "1"), make_key())


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    """Trust in key 0, for any model."""
    return Trust(write_keys(tmp_path / "trusted.pem", make_key()))


def test_a_signed_model_is_loaded(signed: Path, trust: Trust) -> None:
    assert load_model(signed, trust).source.version == "1"
    assert load_model(signed, Trust(trust.keys_file, "iris")).source.version == "1"
    (signed / "..data").mkdir()  # as in the folder of a ConfigMap
    assert load_model(signed, trust).source.version == "1"


def test_the_signature_is_an_envelope_of_dsse_that_others_can_check(
    signed: Path,
) -> None:
    """The encoding is that of the specification's example: lengths, then the bytes."""
    envelope = json.loads((signed / SIGNATURE).read_bytes())
    kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"])
    (signature,) = envelope["signatures"]
    message = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload

    make_key().public_key().verify(base64.b64decode(signature["sig"]), message)

    digest = hashlib.sha256((signed / FILE_NAME).read_bytes()).hexdigest()
    assert json.loads(payload) == {
        "registered_model": "iris",
        "files": {FILE_NAME: digest},
    }


def put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def change_artifact(folder: Path) -> None:
    """Change the model to one that is whole: another digest at its end, and in source.json."""
    artifact = ModelArtifact.FromString((folder / FILE_NAME).read_bytes())
    artifact.ClearField("sha256")
    artifact.provenance.training_run_id = "another"
    content = seal(artifact.SerializeToString())
    (folder / FILE_NAME).write_bytes(content)
    ModelSource("iris", "1", "", hashlib.sha256(content).hexdigest()).write(folder)


def change_payload(folder: Path) -> None:
    """Change the signed statement to fit the changed model."""
    change_artifact(folder)
    envelope = json.loads((folder / SIGNATURE).read_bytes())
    payload = make_payload("iris", {FILE_NAME: (folder / FILE_NAME).read_bytes()})
    envelope["payload"] = base64.b64encode(payload).decode()
    (folder / SIGNATURE).write_text(json.dumps(envelope, indent=2) + "\n")


def change_source(folder: Path) -> None:
    """Pass the model off as one of another name."""
    digest = hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()
    ModelSource("wine", "1", "", digest).write(folder)


def change_kind(folder: Path) -> None:
    envelope = json.loads((folder / SIGNATURE).read_bytes())
    (folder / SIGNATURE).write_text(json.dumps(envelope | {"payloadType": "text"}))


def sign_without_separation(folder: Path) -> None:
    """Sign the bare statement, as another protocol with the same key might."""
    payload = make_payload("iris", {FILE_NAME: (folder / FILE_NAME).read_bytes()})
    key = make_key()
    name = name_key(key.public_key().public_bytes_raw())
    (folder / SIGNATURE).write_bytes(make_envelope(payload, {name: key.sign(payload)}))


def sign_more(folder: Path) -> None:
    """Sign a file that this server does not know."""
    content = (folder / FILE_NAME).read_bytes()
    payload = make_payload("iris", {FILE_NAME: content, "more": b""})
    name = name_key(make_key().public_key().public_bytes_raw())
    signature = make_key().sign(encode_for_signing(payload))
    (folder / SIGNATURE).write_bytes(make_envelope(payload, {name: signature}))


def sign_nonsense(folder: Path) -> None:
    name = name_key(make_key().public_key().public_bytes_raw())
    signature = make_key().sign(encode_for_signing(b"[]"))
    (folder / SIGNATURE).write_bytes(make_envelope(b"[]", {name: signature}))


def make_pipe(folder: Path) -> None:
    (folder / SIGNATURE).unlink()
    os.mkfifo(folder / SIGNATURE)


HUGE = b"x" * (MAX_SIGNATURE_BYTES + 1)
WITHOUT = make_envelope(b"", {})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / SIGNATURE).unlink(), "it is not signed"),
        (lambda folder: sign(folder, make_key(1)), "is signed by no trusted key"),
        (put(SIGNATURE, WITHOUT), "is signed by no trusted key: it names none"),
        (put(SIGNATURE, b""), "is no envelope of DSSE"),
        (put(SIGNATURE, b"\xff\x00"), "is no envelope of DSSE"),
        (put(SIGNATURE, b"[" * 50_000), "is no envelope of DSSE"),
        (put(SIGNATURE, b"[]"), "is no envelope of DSSE"),
        (put(SIGNATURE, b"7"), "is no envelope of DSSE"),
        (put(SIGNATURE, b'{"payloadType": 1, "payload": 2}'), "is no envelope"),
        (put(SIGNATURE, WITHOUT + b" "), "is not as a signer writes it"),
        (put(SIGNATURE, HUGE), "at most 65536 are allowed"),
        (make_pipe, "is not a regular file"),
        (put("more", b""), "has 'more', which no signature covers"),
        (put(".hidden", b""), "has '.hidden', which no signature covers"),
        (change_artifact, "is of other files"),
        (change_payload, "has a wrong signature"),
        (change_source, "is of the model 'iris', but source.json names 'wine'"),
        (change_kind, "is of the kind 'text'"),
        (sign_without_separation, "has a wrong signature"),
        (sign_more, "is of other files"),
        (sign_nonsense, "has a signed statement that this server cannot read"),
    ],
)
def test_what_no_trusted_key_has_signed_is_refused_in_a_line(
    spoil: Callable[[Path], object], reason: str, signed: Path, trust: Trust
) -> None:
    spoil(signed)

    with pytest.raises(ArtifactUnverified) as error:
        load_model(signed, trust)

    assert reason in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_another_models_signed_version_is_refused(signed: Path, trust: Trust) -> None:
    """Whoever writes the folder also writes the name in source.json."""
    with pytest.raises(ArtifactUnverified, match="of the model 'iris', not of 'wine'"):
        load_model(signed, Trust(trust.keys_file, "wine"))


def test_signatures_cannot_be_swapped(
    signed: Path, trust: Trust, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    logistic_artifact.provenance.training_run_id = "another"
    other = sign(write_version(tmp_path, logistic_artifact, "2"), make_key())
    (signed / SIGNATURE).write_bytes((other / SIGNATURE).read_bytes())

    with pytest.raises(ArtifactUnverified, match="is of other files"):
        load_model(signed, trust)


def list_damaged(content: bytes) -> Iterator[bytes]:
    """Yield flips of 100 random bits, 20 cuts, and a byte too many."""
    chance = random.Random(0)
    for _ in range(100):
        position = chance.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        yield bytes(damaged)
    for _ in range(20):
        yield content[: chance.randrange(len(content))]
    yield content + b"\n"


@pytest.mark.parametrize("name", [FILE_NAME, "source.json", SIGNATURE])
def test_a_flipped_bit_of_any_file_serves_no_other_model(
    name: str, signed: Path, trust: Trust
) -> None:
    """All damage to the model and to its signature is refused."""
    good = load_model(signed, trust)
    content = (signed / name).read_bytes()

    for damaged in list_damaged(content):
        (signed / name).write_bytes(damaged)
        try:
            model = load_model(signed, trust)
        except StartupError:
            continue
        # The sync writes this file. Its version and run are not signed, and change no answer.
        assert name == "source.json"
        assert model.source.sha256 == good.source.sha256
        assert model.source.registered_model in ("", "iris")


def test_nothing_of_an_unsigned_model_is_parsed(
    signed: Path, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(loading, "read_source", fail)
    monkeypatch.setattr(loading, "_parse", fail)
    sign(signed, make_key(1))

    with pytest.raises(ArtifactUnverified):
        load_model(signed, trust)


def test_keys_are_rotated(signed: Path, trust: Trust) -> None:
    """First both keys are trusted, then models are signed anew, then the old key is removed."""
    old, new = make_key(), make_key(1)
    write_keys(trust.keys_file, old, new)
    load_model(signed, trust)
    sign(signed, new)
    load_model(signed, trust)
    write_keys(trust.keys_file, new)
    load_model(signed, trust)
    sign(signed, old)

    with pytest.raises(ArtifactUnverified, match="is signed by no trusted key"):
        load_model(signed, trust)


@pytest.mark.parametrize("trusted", [0, 1])
def test_one_of_two_signatures_is_enough(
    trusted: int, signed: Path, trust: Trust
) -> None:
    payload = make_payload("iris", {FILE_NAME: (signed / FILE_NAME).read_bytes()})
    message = encode_for_signing(payload)
    keys = [make_key(0), make_key(1)]
    signatures = {
        name_key(key.public_key().public_bytes_raw()): key.sign(message) for key in keys
    }
    (signed / SIGNATURE).write_bytes(make_envelope(payload, signatures))
    write_keys(trust.keys_file, make_key(trusted))

    assert load_model(signed, trust).source.version == "1"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has 0 keys in PEM"),
        (b"garbage", "has 0 keys in PEM"),
        (b"x" * 100_000, "at most 65536 are allowed"),
        (to_pem(make_key()), "is a PRIVATE KEY; give the public key"),
        (
            generate_private_key(SECP256R1())
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "is not of Ed25519",
        ),
        (
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "key 1 of .* is damaged",
        ),
    ],
)
def test_a_file_that_holds_no_public_keys_is_refused(
    content: bytes, reason: str, signed: Path, trust: Trust
) -> None:
    trust.keys_file.write_bytes(content)

    with pytest.raises(ArtifactUnverified, match=reason):
        load_model(signed, trust)


class Log:
    """What a watcher did."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.failures: list[str] = []
        self.standing = Standing()

    def serve(self, model: Any) -> None:
        self.served.append(model.source.version)

    def show(self, standing: Standing) -> None:
        self.standing = standing


@contextmanager
def watching(folder: Path, trust: Trust) -> Iterator[tuple[ModelWatcher, Log]]:
    log = Log()
    watcher = ModelWatcher(
        folder,
        None,
        log.serve,
        log.failures.append,
        0.01,
        show_standing=log.show,
        trust=trust,
    )
    yield watcher, log
    watcher.stop()


@pytest.mark.slow
def test_a_model_serves_once_its_key_is_trusted_and_stays_when_it_no_longer_is(
    signed: Path, trust: Trust
) -> None:
    """The keys are read again when their file changes."""
    write_keys(trust.keys_file, make_key(1))
    with watching(signed, trust) as (watcher, log):
        with pytest.raises(ArtifactUnverified):
            watcher.load_now()
        watcher.start()
        write_keys(trust.keys_file, make_key(0), make_key(1))
        wait_for(lambda: log.served == ["1"])
        wait_for(lambda: log.standing == Standing(wanted_version="1"))
        trust.keys_file.unlink()
        wait_for(lambda: log.standing.refusal != "")

    assert "no trusted keys can be read" in log.standing.refusal
    assert set(log.failures) == {"ArtifactUnverified"}
    assert log.served == ["1"]


def test_a_start_without_keys_that_can_be_read_fails(signed: Path) -> None:
    with watching(signed, Trust(signed / "none.pem")) as (watcher, _):
        with pytest.raises(SettingsError, match="--trusted-keys: no trusted keys"):
            watcher.load_now()


@pytest.mark.slow
def test_a_wrongly_signed_model_is_counted_and_the_old_one_keeps_answering(
    signed: Path, trust: Trust, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    logistic_artifact.provenance.training_run_id = "another"
    wrong = sign(write_version(tmp_path, logistic_artifact, "2"), make_key(1))
    link = tmp_path / "current"
    link.symlink_to(signed)

    arguments = ["--model-dir", str(link), "--trusted-keys", str(trust.keys_file)]
    with running(*arguments) as process:
        assert process.wait_for("serving")["model_version"] == "1"
        (tmp_path / "fresh").symlink_to(wrong)
        (tmp_path / "fresh").replace(link)
        refused = process.wait_for("model refused, keeping what serves")
        page = read_metrics(process)

    assert (refused["wanted_version"], refused["served_version"]) == ("2", "1")
    assert "is signed by no trusted key" in refused["reason"]
    name = "prediction_model_load_failures_total"
    assert [s.value for s in samples(page, name, reason="unverified")] == [1.0]
    name = "prediction_model_info"
    assert [s.value for s in samples(page, name, model_version="1")] == [1.0]


@pytest.mark.slow
def test_a_server_says_once_that_it_verifies_nothing_and_does_not_import_cryptography(
    signed: Path,
) -> None:
    program = (
        "import sys, grpc_server.__main__ as m, grpc_server.server\n"
        "from grpc_server.model import load_model\n"
        "from pathlib import Path\n"
        "load_model(Path(sys.argv[1]))\n"
        "print([n for n in sys.modules if n.startswith('cryptography')])\n"
    )
    command = [sys.executable, "-c", program, str(signed)]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == "[]\n"
    command = [*COMMAND, *FREE_PORTS, "--model-dir", str(signed / "none")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert events.count("models are not verified") == 1


def test_a_signed_model_that_is_too_old_is_refused(signed: Path, trust: Trust) -> None:
    made = load_model(signed, trust).provenance.create_time.seconds

    assert load_model(signed, replace(trust, since_seconds=made)).source.version == "1"
    young = replace(trust, since_seconds=made + 1.0)
    with pytest.raises(ArtifactUnverified, match="made at 2023-11-14 22:13:20 UTC"):
        load_model(signed, young)
    with pytest.raises(ArtifactUnverified, match="by --trusted-since"):
        try_to_load(signed, lambda: False, young)


def test_the_settings_say_since_when_models_are_trusted() -> None:
    def since(*arguments: str) -> float | None:
        trust = parse_command_line(arguments, {}).settings.trust
        return None if trust is None else trust.since_seconds

    keys = ["--trusted-keys", "keys.pem"]
    assert since(*keys) == 0
    assert since(*keys, "--trusted-since=2026-11-01") == 1793491200
    assert since(*keys, "--trusted-since=2026-11-01T02:00+02:00") == 1793491200
    with pytest.raises(SettingsError, match="--trusted-since needs --trusted-keys"):
        since("--trusted-since=2026-11-01")
    for text in ("yesterday", "", "1969-12-31", "9999-12-31", "2026-13-01"):
        with pytest.raises(SettingsError, match="a time such as 2026-11-01"):
            since(*keys, f"--trusted-since={text}")
    canary = "--canary-uri=models:/iris@challenger"
    given = parse_command_line([*keys, canary, "--trusted-since=2026-11-01"], {})
    of_canary = given.settings.canary_trust
    assert of_canary == Trust(Path("keys.pem"), "iris", 1793491200)


def test_the_settings_name_the_model_that_must_be_signed(tmp_path: Path) -> None:
    keys = tmp_path / "keys.pem"

    def trust_of(*arguments: str) -> Trust | None:
        return parse_command_line(arguments, {}).settings.trust

    assert Settings().trust is None
    assert trust_of("--trusted-keys", str(keys)) == Trust(keys)
    uri = "--model-uri=models:/iris@champion"
    assert trust_of("--trusted-keys", str(keys), uri) == Trust(keys, "iris")
    name = "--signed-model-name=wine"
    assert trust_of("--trusted-keys", str(keys), uri, name) == Trust(keys, "wine")
    with pytest.raises(SettingsError, match="'wine' needs --trusted-keys FILE"):
        trust_of(name)


def store_version(
    link: Path, folder: Path, trust: Trust | None, *, is_signed: bool = True
) -> None:
    """Store a version, whose files in the registry are those of a folder."""
    content = (folder / FILE_NAME).read_bytes()
    source = ModelSource("iris", "1", "", hashlib.sha256(content).hexdigest())
    signature = (folder / SIGNATURE).read_bytes()

    def download(name: str, scratch: Path) -> Path:
        (scratch / name).write_bytes((folder / name).read_bytes())
        return scratch / name

    file = SignatureFile(
        hashlib.sha256(signature).hexdigest(), lambda f: download(SIGNATURE, f)
    )
    VersionStore(link, trust).serve(
        source, lambda f: download(FILE_NAME, f), file if is_signed else None
    )


def test_the_sync_brings_the_signature_and_fetches_a_damaged_one_again(
    signed: Path, trust: Trust, tmp_path: Path
) -> None:
    link = tmp_path / "store" / "current"
    named = Trust(trust.keys_file, "iris")

    store_version(link, signed, None, is_signed=False)
    with pytest.raises(ArtifactUnverified, match="it is not signed"):
        load_model(link, named)
    store_version(link, signed, named)
    load_model(link, named)
    (link / SIGNATURE).write_text("damaged")
    store_version(link, signed, named)

    load_model(link, named)
    assert sorted(os.listdir(link)) == [FILE_NAME, SIGNATURE, "source.json"]


def test_the_sync_refuses_what_no_trusted_key_has_signed(
    signed: Path, trust: Trust, tmp_path: Path
) -> None:
    link = tmp_path / "store" / "current"
    with pytest.raises(RegistryError, match="version 1 of iris: it is not signed"):
        store_version(link, signed, trust, is_signed=False)
    with pytest.raises(RegistryError, match="version 1 of iris: .* not of 'wine'"):
        store_version(link, signed, Trust(trust.keys_file, "wine"))
    sign(signed, make_key(1))
    with pytest.raises(RegistryError, match="version 1 of iris: .* no trusted key"):
        store_version(link, signed, trust)

    assert not link.is_symlink()
    assert os.listdir(link.parent / "versions") == [".lock"]


def test_the_key_comes_from_a_file_or_from_a_secret_of_a_pod(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    path.write_bytes(to_pem(make_key()))

    by_path = find_signer({"MODEL_SIGNING_KEY": str(path)})
    by_text = find_signer({"MODEL_SIGNING_KEY": to_pem(make_key()).decode()})

    assert by_path and by_text
    assert by_path.sign("iris", b"model") == by_text.sign("iris", b"model")
    assert (
        describe_signer(by_path) == f"The model is signed by the key {by_path.key_name}"
    )
    assert find_signer({}) is None and find_signer({"MODEL_SIGNING_KEY": ""}) is None
    assert describe_signer(None).startswith("The model is not signed")


@pytest.mark.parametrize("value", ["no/such/file", "c2VjcmV0LWtleQ==\0", "/"])
def test_no_message_quotes_what_may_be_a_key(value: str) -> None:
    with pytest.raises(SigningError, match="MODEL_SIGNING_KEY") as error:
        find_signer({"MODEL_SIGNING_KEY": value})

    assert value not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"garbage",
        to_pem(generate_private_key(SECP256R1())),
        make_key()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_another_key_is_refused_with_the_command_that_makes_one(
    pem: bytes, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_bytes(pem)

    with pytest.raises(SigningError, match="openssl genpkey -algorithm ed25519"):
        find_signer({"MODEL_SIGNING_KEY": str(tmp_path / "key.pem")})


def test_a_signer_is_never_stored() -> None:
    """Metaflow would pickle it if a step kept it."""
    with pytest.raises(SigningError, match="cannot be stored"):
        pickle.dumps(Signer(make_key()))
    assert "private" not in repr(Signer(make_key())).lower()


@pytest.mark.slow
def test_a_start_without_a_good_model_says_why(signed: Path, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "other.pem", make_key(1))
    arguments = ["--model-dir", str(signed), "--trusted-keys", str(keys)]

    result = subprocess.run(
        [*COMMAND, *FREE_PORTS, *arguments], cwd=ROOT, capture_output=True, text=True
    )

    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "is signed by no trusted key" in line
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert "models are verified" in [event["event"] for event in events]


def test_the_commands_of_the_page_make_keys_and_rotate_them(
    signed: Path, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "security-models.md").read_text()
    commands = [line for line in page.splitlines() if line.startswith("openssl ")]
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)

    assert len(commands) == 4
    trust = Trust(tmp_path / "trusted.pem", "iris")
    for name in ("signing.pem", "signing-2.pem"):
        signer = find_signer({"MODEL_SIGNING_KEY": str(tmp_path / name)})
        assert signer is not None
        content = (signed / FILE_NAME).read_bytes()
        (signed / SIGNATURE).write_bytes(signer.sign("iris", content))
        assert load_model(signed, trust).source.version == "1"
