"""Writes what is in both images as SBOMs of CycloneDX 1.6: build/sbom/NAME.json.

Knows how an image is laid out, and leaves Python's packages to cyclonedx-py, which `make sbom`
installs into an environment of its own. The images have neither pip nor apt to ask.
"""

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from images import (
    DOCKERFILES,
    ROOT,
    CommandError,
    Images,
    add_arguments,
    default_tag,
    find_tool,
)

_STATUS = "var/lib/dpkg/status"
_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(error and str(error)[:2000])
"""


def read_debian_packages(status: str) -> list[dict[str, str]]:
    """Return the installed packages of Debian as components of CycloneDX.

    Parameters
    ----------
    status : str
        Content of /var/lib/dpkg/status.

    Returns
    -------
    list of dict
        Type, name, version and package URL of each.
    """
    found = []
    for paragraph in status.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line[:1].strip()]
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        if fields.get("Status", "").endswith(" installed"):
            found.append(_to_component(fields))
    return found


def _to_component(fields: dict[str, str]) -> dict[str, str]:
    name, version = fields["Package"], fields["Version"]
    quoted = version.replace("+", "%2B").replace(":", "%3A")
    url = f"pkg:deb/debian/{name}@{quoted}?arch={fields['Architecture']}"
    component = {"type": "library", "name": name, "version": version}
    return component | {"purl": url, "bom-ref": url}


def _copy_out(tool: str, reference: str, folder: Path) -> None:
    """Copy what describes the packages out of an image, by its own tar and without a network."""
    script = f"find opt/venv -name '*.dist-info' | tar -c -T - {_STATUS}"
    container = [tool, "run", "--rm", "--network=none", "--workdir=/"]
    with tempfile.TemporaryFile() as archive:
        command = [*container, "--entrypoint=sh", reference, "-c", script]
        if subprocess.run(command, stdout=archive).returncode:
            raise CommandError(
                f"cannot read the image {reference}; make it with `make images`"
            )
        archive.seek(0)
        with tarfile.open(fileobj=archive) as found:
            found.extractall(folder, filter="data")


def _list_python_packages(tools: Path, folder: Path) -> dict[str, Any]:
    """Return the SBOM of the Python packages in a folder."""
    (packages,) = (folder / "opt/venv/lib").glob("python3*/site-packages")
    # The image's own Python cannot run here: this one says where its packages are.
    stand_in = folder / "python"
    stand_in.write_text(f"#!/bin/sh\necho '{json.dumps([str(packages)])}'\n")
    stand_in.chmod(0o755)
    command = [str(tools / "cyclonedx-py"), "environment", "--output-reproducible"]
    result = subprocess.run(
        [*command, "--spec-version", "1.6", str(stand_in)],
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise CommandError(f"cyclonedx-py failed: {result.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def describe(tool: str, tools: Path, reference: str) -> str:
    """Return the SBOM of an image, after a check against CycloneDX's schema.

    Raises
    ------
    CommandError
        If there is no such image, or the SBOM is not valid.
    """
    with tempfile.TemporaryDirectory(prefix="sbom-") as name:
        folder = Path(name)
        _copy_out(tool, reference, folder)
        document = _list_python_packages(tools, folder)
        status = (folder / _STATUS).read_text()
    document["components"] += read_debian_packages(status)
    image = {"type": "container", "name": reference, "bom-ref": reference}
    document.setdefault("metadata", {})["component"] = image
    text = json.dumps(document, indent=2)
    checked = subprocess.run(
        [str(tools / "python"), "-c", _VALIDATE],
        input=text,
        capture_output=True,
        text=True,
    )
    if checked.returncode:
        raise CommandError(f"the SBOM of {reference} is not valid: {checked.stderr}")
    return text


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="python k8s/sbom.py")
    add_arguments(parser)
    parser.add_argument("--tools", type=Path, required=True, help="folder of programs")
    given = parser.parse_args(arguments)
    images = Images(given.prefix, given.tag or default_tag())
    folder = ROOT / "build" / "sbom"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name in DOCKERFILES:
            text = describe(find_tool(), given.tools, images.reference(name))
            (folder / f"{name}.json").write_text(text)
            count = len(json.loads(text)["components"])
            print(f"build/sbom/{name}.json: {count} packages")
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
