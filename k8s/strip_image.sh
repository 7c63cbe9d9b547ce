#!/bin/sh
# Takes out of an image's root what could install programs or give rights; runs in the build of both images.
# The list of Debian's packages (/var/lib/dpkg/status) stays, for scanners and the SBOM.
set -eu
for library in /usr/lib/python3* /usr/local/lib/python3*; do
  rm -rf "$library/ensurepip"
  for folder in "$library"/dist-packages "$library"/site-packages; do
    rm -rf "$folder"/pip "$folder"/pip-* "$folder"/setuptools* "$folder"/pkg_resources* "$folder"/wheel* "$folder"/_distutils_hack
  done
done
rm -rf /usr/bin/pip* /usr/local/bin/pip* /usr/share/python-wheels
rm -rf /usr/bin/apt* /usr/lib/apt /etc/apt /var/lib/apt /var/cache/apt /usr/lib/*/libapt-p*
rm -rf /usr/bin/dpkg* /usr/sbin/dpkg* /sbin/dpkg* /usr/lib/dpkg
find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
rm -f "$0"
