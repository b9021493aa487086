#!/usr/bin/env bash
# `make clean`: stops a run and removes what was built and the demo's data.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

config/dev/stop.sh
# The data may lie outside the folder when PostgreSQL's user cannot reach it.
if [ -f "$RUN/postgres.path" ]; then rm -rf "$(cat "$RUN/postgres.path")"; fi
rm -rf "$RUN" .build
