#!/bin/sh
# Brings Swagger UI into the package: swagger_ui.sh PYTHON, a Python that has pip.
# The files are those of npm's package swagger-ui-dist, which their digests prove. They come from
# PyPI, because all that builds the server reaches it already, and a machine without npm does too.
set -eu
python=$1
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes \
  --target "$work" --requirement "$here/swagger-ui.txt"
files="$work/flask_swagger_ui/dist"
cp "$here/swagger-ui.sha256" "$files"
(cd "$files" && sha256sum --quiet --check swagger-ui.sha256)
mkdir -p "$here/swagger"
cp "$files/LICENSE" "$files/swagger-ui.css" "$files/swagger-ui-bundle.js" "$here/swagger"
