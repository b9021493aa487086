#!/usr/bin/env bash
# `make clean`: stops a run and deletes the build and the demo's data.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

config/dev/stop.sh
# The data is outside the folder if PostgreSQL's user could not reach the folder.
if [ -f "$RUN/postgres.path" ]; then rm -rf "$(cat "$RUN/postgres.path")"; fi
rm -rf "$RUN" .build
