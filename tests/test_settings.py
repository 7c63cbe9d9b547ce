"""Settings: flag over environment over default, and one clear line for a mistake."""

import io
import sys

import pytest

from grpc_server.__main__ import main
from grpc_server.errors import SettingsError
from grpc_server.model_uri import ModelUri
from grpc_server.settings import Settings, describe, parse_command_line
from grpc_server.settings.setting import list_settings


def test_defaults_hold_where_nothing_is_given() -> None:
    command_line = parse_command_line([], {})

    assert command_line.settings == Settings()
    assert set(command_line.origins.values()) == {"default"}


def test_flag_variable_bounds_and_help_follow_from_one_field() -> None:
    """The example is that of `grpc_server/settings/setting.py`."""
    every = {one.name: one for one in list_settings(Settings)}
    setting = every["max_streams"]

    assert setting.flag == "--max-streams"
    assert setting.variable == "PREDICTION_MAX_STREAMS"
    assert setting.help_text.startswith("most open streams")
    assert setting.help_text.endswith("(default: 1024)")
    with pytest.raises(SettingsError) as caught:
        setting.read("0", setting.flag)
    assert str(caught.value) == "--max-streams: '0' is not an integer in [1, 100000]"


def test_the_groups_are_shown_in_their_order() -> None:
    """The first of each; a dataclass would take the groups in the other direction."""
    firsts = ["model_dir", "canary_uri", "shadow_uri", "wait_for_model", "tls_cert"]
    firsts += ["lane", "drift_features", "max_message_bytes", "drain_seconds"]
    firsts += ["prediction_log", "otlp_endpoint"]

    names = [one.name for one in list_settings(Settings)]

    assert [name for name in names if name in firsts] == firsts


def test_settings_are_printed_on_a_terminal_that_cannot_show_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)

    assert main(["--print-settings", "--model-dir", "Köln"], {}) == 0
    assert rb"K\xf6ln" in terminal.buffer.getvalue()


def test_a_flag_beats_the_environment_which_beats_the_default() -> None:
    environ = {"PREDICTION_PORT": "1", "PREDICTION_HTTP_PORT": "2"}

    command_line = parse_command_line(["--port", "3"], environ)

    assert (command_line.settings.port, command_line.settings.http_port) == (3, 2)
    assert command_line.origins["port"] == "--port"
    assert command_line.origins["http_port"] == "PREDICTION_HTTP_PORT"


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        (["--no-reflection"], {"PREDICTION_REFLECTION": "true"}, False),
        (["--reflection"], {"PREDICTION_REFLECTION": "false"}, True),
        ([], {"PREDICTION_REFLECTION": "False"}, False),
        ([], {"PREDICTION_REFLECTION": "1"}, True),
    ],
)
def test_a_boolean_is_read_from_a_flag_and_from_the_environment(
    arguments: list[str], environ: dict[str, str], expected: bool
) -> None:
    assert parse_command_line(arguments, environ).settings.reflection is expected


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (["--port", "http"], {}, ["--port", "'http'", "[0, 65535]"]),
        (["--port", "65536"], {}, ["--port", "'65536'", "[0, 65535]"]),
        (["--workers", "0"], {}, ["--workers", "[1, 64]"]),
        (["--processes", "0"], {}, ["--processes", "'0'", "[1, 64]"]),
        ([], {"PREDICTION_PROCESSES": "65"}, ["PREDICTION_PROCESSES", "[1, 64]"]),
        (["--drain-seconds", "-1"], {}, ["--drain-seconds", "seconds in [0, 3600]"]),
        (["--drain-seconds", "nan"], {}, ["--drain-seconds", "seconds in [0, 3600]"]),
        (["--grace-seconds", "soon"], {}, ["--grace-seconds", "'soon'"]),
        (["--log-level", "loud"], {}, ["--log-level", "DEBUG, INFO, WARNING, ERROR"]),
        (["--model-uri", "runs:/1"], {}, ["--model-uri", "models:/NAME@ALIAS"]),
        (["--model-uri", "models:/a"], {}, ["--model-uri", "models:/NAME/VERSION"]),
        (["--model-uri", "models:/a/v1"], {}, ["'models:/a/v1'", "NAME/VERSION"]),
        (["--model-dir", ""], {}, ["--model-dir", "a path"]),
        (["--unknown"], {}, ["--unknown", "--help"]),
        (["--po", "1"], {}, ["--po"]),
        (
            [],
            {"PREDICTION_REFLECTION": "perhaps"},
            ["PREDICTION_REFLECTION", "true or false"],
        ),
        ([], {"PREDICTION_PROT": "1"}, ["PREDICTION_PROT", "PREDICTION_PORT"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_mistake_names_its_place_and_what_is_allowed(
    arguments: list[str], environ: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_command_line(arguments, environ)

    message = str(caught.value)
    assert all(word in message for word in words)
    assert "\n" not in message


def test_the_description_shows_every_value_and_its_origin() -> None:
    command_line = parse_command_line(["--port", "3"], {"PREDICTION_WORKERS": "2"})

    lines = describe(command_line.settings, command_line.origins).splitlines()

    assert [
        line.split() for line in lines if line.startswith(("port", "workers", "host"))
    ] == [
        ["host", "0.0.0.0", "default"],
        ["port", "3", "--port"],
        ["workers", "2", "PREDICTION_WORKERS"],
    ]


def test_a_model_uri_is_what_it_was_parsed_from() -> None:
    for text in ("models:/iris@champion", "models:/iris/12"):
        assert str(ModelUri.parse(text)) == text


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["--model-uri", "models:/iris@champion"], ".model/iris@champion"),
        (["--model-uri", "models:/iris/12"], ".model/iris-12"),
        (["--model-uri", "models:/iris/12", "--model-dir", "a"], "a"),
        (["--model-dir", "a"], "a"),
    ],
    ids=" ".join,
)
def test_each_model_has_a_folder_of_its_own(arguments: list[str], folder: str) -> None:
    settings = parse_command_line(arguments, {}).settings

    assert str(settings.model_folder) == folder


def test_without_a_model_there_is_no_folder() -> None:
    settings = parse_command_line([], {}).settings

    with pytest.raises(SettingsError, match="give --model-dir FOLDER or --model-uri"):
        print(settings.model_folder)


def links_of(service: str, address: str = "10.0.0.7") -> dict[str, str]:
    """Return what Kubernetes sets for a Service with two ports."""
    name = service.upper().replace("-", "_")
    host = f"[{address}]" if ":" in address else address
    links = {
        f"{name}_SERVICE_HOST": address,
        f"{name}_SERVICE_PORT": "50051",
        f"{name}_SERVICE_PORT_GRPC": "50051",
        f"{name}_SERVICE_PORT_HTTP_METRICS": "8080",
        f"{name}_PORT": f"tcp://{host}:50051",
    }
    for port, protocol in (("50051", "TCP"), ("53", "UDP")):
        start = f"{name}_PORT_{port}_{protocol}"
        links[start] = f"{protocol.lower()}://{host}:{port}"
        links[f"{start}_PROTO"] = protocol.lower()
        links[f"{start}_PORT"] = port
        links[f"{start}_ADDR"] = address
    return links


@pytest.mark.parametrize("address", ["10.0.0.7", "fd00::7"])
@pytest.mark.parametrize(
    "service",
    [
        "prediction",
        "prediction-predictor",
        "prediction-server-headless",
        # Their names are those of settings: PREDICTION_HTTP_PORT, PREDICTION_HEALTH_PORT.
        "prediction-http",
        "prediction-health",
        "prediction-service",
    ],
)
def test_service_links_of_kubernetes_are_no_settings(
    service: str, address: str
) -> None:
    links = links_of(service, address)

    command_line = parse_command_line([], {**links, "PREDICTION_WORKERS": "2"})

    assert command_line.settings == Settings(workers=2)
    assert command_line.n_service_links == len(links)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PREDICTION_HTP_PORT", "8080"),
        ("PREDICTION_PROT", "tcp://10.0.0.7:80"),
        ("PREDICTION_GRPC_PORT", "50051"),
        ("PREDICTION_GRPC_PORT", "tcp://host:50051"),
        ("PREDICTION_GRPC_PORT", "tcp://10.0.0.7:99999"),
        ("PREDICTION_GRPC_PORT", "http://10.0.0.7:80"),
        ("PREDICTION_GRPC_PORT", ""),
        ("PREDICTION_SERVICE_HOST", "localhost"),
        ("PREDICTION_SERVICE_HOSTS", "10.0.0.7"),
        ("PREDICTION_SERVICE_PORT", "http"),
        ("PREDICTION_A_PORT_80_TCP_PROTO", "udp"),
        ("PREDICTION_A_PORT_80_TCP_PORT", "81"),
        ("PREDICTION_A_PORT_80_TCP_ADDR", "0.0.0.0:1"),
        ("PREDICTION_A_PORT_x_TCP", "tcp://10.0.0.7:80"),
        ("PREDICTION_WORKER", "10.0.0.7"),
    ],
)
def test_what_only_looks_like_a_service_link_is_refused(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=name):
        parse_command_line([], {name: text})


@pytest.mark.parametrize("text", ["tcp://host:80", "tcp://10.0.0.7", "http"])
def test_the_port_of_a_setting_that_is_no_service_link_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="PREDICTION_HTTP_PORT"):
        parse_command_line([], {"PREDICTION_HTTP_PORT": text})
