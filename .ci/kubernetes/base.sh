#!/usr/bin/env bash
# Builds localhost/python:3.11-slim from Debian's packages: what the Dockerfiles take as BASE on a machine
# that reaches no registry of images. Needs root.
set -euo pipefail
root=$(mktemp --directory)
trap 'rm --recursive --force "$root"' EXIT
packages=ca-certificates,libgomp1,netbase,python3,python3-distutils,python3-pip,python3-venv,tzdata
DEBIAN_FRONTEND=noninteractive debootstrap --variant=minbase --include="$packages" bookworm "$root/tree" > "$root/log" \
  || { tail -20 "$root/log"; exit 1; }
cd "$root/tree"
# Where the Python images have them.
ln --symbolic /usr/bin/python3 usr/local/bin/python
ln --symbolic /usr/bin/python3 usr/local/bin/python3
rm --force usr/lib/python3.11/EXTERNALLY-MANAGED
rm --recursive --force var/lib/apt/lists/* var/cache/apt/*.bin var/cache/apt/archives/*.deb usr/share/{doc,man,locale}/*
tar --create . | podman import --quiet --change 'CMD ["python3"]' \
  --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'ENV LANG=C.UTF-8' \
  - localhost/python:3.11-slim
