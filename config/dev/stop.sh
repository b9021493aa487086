#!/usr/bin/env bash
# `make stop`: ends what `make run` started in this folder, even if that run was killed.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

# The runner stops its parts in order.
stop_pid "$RUN/run.pid" run.sh
stop_pid "$RUN/demo.pid" gavelcast-loadtest
stop_pid "$RUN/gateway.pid" gavelcast-gateway
stop_pid "$RUN/bidapi.pid" gavelcast-bidapi
stop_pid "$RUN/redis.pid" redis-server
stop_pid "$RUN/postgres.pid" postgres INT
