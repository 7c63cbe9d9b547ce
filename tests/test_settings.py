"""Settings: flag over environment over default, and one clear line for a mistake."""

import pytest

from grpc_server.errors import SettingsError
from grpc_server.model_uri import ModelUri
from grpc_server.settings import Settings, describe, parse_command_line


def test_defaults_hold_where_nothing_is_given() -> None:
    command_line = parse_command_line([], {})

    assert command_line.settings == Settings()
    assert set(command_line.origins.values()) == {"default"}


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
