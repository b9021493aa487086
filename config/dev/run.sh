#!/usr/bin/env bash
# `make run`: builds in release, starts a private PostgreSQL and Redis, the bid API, the gateway and the demo's bidders,
# and prints the address to open. Ctrl-C stops all of it. PORT moves all ports: the gateway listens on PORT, the bid API
# on PORT+1, PostgreSQL on PORT+2, Redis on PORT+3, the admin listeners on PORT+1000 and PORT+1001.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

gateway_port=${PORT:-8080}
bidapi_port=$((gateway_port + 1))
postgres_port=$((gateway_port + 2))
redis_port=$((gateway_port + 3))
gateway_admin_port=$((gateway_port + 1000))
bidapi_admin_port=$((gateway_port + 1001))
for port in $gateway_port $bidapi_port $postgres_port $redis_port $gateway_admin_port $bidapi_admin_port; do
    ! port_is_taken "$port" ||
        die "port $port is in use: stop what listens there (make stop ends an earlier run), or choose others: make run PORT=18080"
done

# Everything that a run does, as numbered steps.
steps=9
done_steps=0
step() {
    done_steps=$((done_steps + 1))
    say "[$done_steps/$steps] $*"
}

step "System packages"
config/dev/setup.sh
bin=.build/release
for product in gavelcast-gateway gavelcast-bidapi gavelcast-loadtest; do
    step "Building $product (release; the first build takes some minutes)"
    swift build -c release --product "$product"
done

mkdir -p "$RUN/log"
echo $$ >"$RUN/run.pid"
stopping=""
stop_all() {
    [ -z "$stopping" ] || return 0
    stopping=yes
    trap '' INT TERM
    say "Stopping"
    stop_pid "$RUN/demo.pid" gavelcast-loadtest
    stop_pid "$RUN/gateway.pid" gavelcast-gateway
    stop_pid "$RUN/bidapi.pid" gavelcast-bidapi
    stop_pid "$RUN/redis.pid" redis-server
    stop_pid "$RUN/postgres.pid" postgres INT
    rm -f "$RUN/run.pid"
}
trap stop_all EXIT
# A run normally ends by a signal, so this is not a failure.
trap 'exit 0' INT TERM

# start NAME COMMAND...: starts the command in its own process group, so that Ctrl-C reaches only this script and the
# script decides the order of stopping.
start() {
    local name=$1
    shift
    setsid "$@" >"$RUN/log/$name.log" 2>&1 &
    echo $! >"$RUN/$name.pid"
}

step "Starting PostgreSQL on port $postgres_port"
postgres=$(postgres_bin)
data="$RUN/postgres"
if [ "$(id -u)" = 0 ]; then
    # The unprivileged user must be able to reach the data.
    id postgres >/dev/null 2>&1 || die "PostgreSQL will not run as root, and there is no user 'postgres' to run it as"
    unprivileged test -x "$RUN" || data="/var/tmp/gavelcast-$(echo "$PWD" | cksum | cut -d' ' -f1)-postgres"
    mkdir -p "$data"
    chown postgres: "$data"
fi
echo "$data" >"$RUN/postgres.path"
if [ ! -f "$data/PG_VERSION" ]; then
    unprivileged "$postgres/initdb" -D "$data" -U gavelcast -A trust -E UTF8 --no-locale >"$RUN/log/initdb.log" 2>&1 ||
        die "initdb failed; see $RUN/log/initdb.log"
fi
as_postgres=()
[ "$(id -u)" != 0 ] || as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups)
start postgres "${as_postgres[@]}" "$postgres/postgres" -D "$data" -p "$postgres_port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories=
wait_for 30 PostgreSQL "$postgres/pg_isready" -q -h 127.0.0.1 -p "$postgres_port" -U gavelcast -d postgres
psql -q -h 127.0.0.1 -p "$postgres_port" -U gavelcast -d postgres -tAc \
    "SELECT 1 FROM pg_database WHERE datname = 'gavelcast'" | grep -q 1 ||
    psql -q -h 127.0.0.1 -p "$postgres_port" -U gavelcast -d postgres -c "CREATE DATABASE gavelcast"

step "Starting Redis on port $redis_port"
start redis redis-server --port "$redis_port" --bind 127.0.0.1 --save "" --appendonly no --dir "$RUN"
wait_for 10 Redis redis-cli -p "$redis_port" ping

# One key for both services: the bid API signs tokens with it, and the gateway verifies them.
keys="$RUN/token-keys.json"
if [ ! -f "$keys" ]; then
    secret=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')
    (umask 077 && printf '{"keys":[{"kty":"oct","kid":"demo","alg":"HS256","k":"%s"}]}\n' "$secret" >"$keys")
fi

step "Starting the bid API on port $bidapi_port"
start bidapi $bin/gavelcast-bidapi --listen 127.0.0.1:"$bidapi_port" --admin-listen 127.0.0.1:"$bidapi_admin_port" \
    --database-url "postgresql://gavelcast@127.0.0.1:$postgres_port/gavelcast" \
    --redis-url "redis://127.0.0.1:$redis_port" \
    --token-keys "$keys" --origins "http://127.0.0.1:$gateway_port" --origins "http://localhost:$gateway_port" \
    --snipe-window-seconds 8 --snipe-extension-seconds 12 --bids-per-minute 0 --auctions-per-hour 0
wait_for 30 "the bid API" http_ok "$bidapi_admin_port" /readyz

step "Starting the gateway on port $gateway_port"
start gateway $bin/gavelcast-gateway --listen 127.0.0.1:"$gateway_port" --admin-listen 127.0.0.1:"$gateway_admin_port" \
    --redis-url "redis://127.0.0.1:$redis_port" --token-keys "$keys" --origins '*' --bid-api-url "http://127.0.0.1:$bidapi_port" --drain-seconds 1
wait_for 30 "the gateway" http_ok "$gateway_admin_port" /readyz

step "Starting the demo's bidders"
start demo $bin/gavelcast-loadtest demo --bid-api-port "$bidapi_port"
wait_for 60 "the demo" grep -q "^long lot: " "$RUN/log/demo.log"
lot=$(sed -n 's/^long lot: //p' "$RUN/log/demo.log" | head -n 1)
private=$(sed -n 's/^private lot: //p' "$RUN/log/demo.log" | head -n 1)

page="http://127.0.0.1:$gateway_port"
cat <<END

    Open $BOLD$page$PLAIN to watch and bid, or $page/wall for all lots at once.
    A private lot, for those who have the link:
        $page$private
    The same events without a browser:
        curl -N -H 'Accept: text/event-stream' $page/v1/auctions/$lot/live
    Bid API: http://127.0.0.1:$bidapi_port · metrics: http://127.0.0.1:$gateway_admin_port/metrics
    Look inside: curl http://127.0.0.1:$gateway_admin_port/v1/auctions/$lot · logs: .run/log
    Stop with Ctrl-C.

END

# Waits until a signal arrives or one of the parts ends by itself.
while true; do
    for part in postgres redis bidapi gateway demo; do
        kill -0 "$(cat "$RUN/$part.pid" 2>/dev/null)" 2>/dev/null ||
            die "$part has ended; its last words: $(tail -n 1 "$RUN/log/$part.log")"
    done
    sleep 1 &
    wait $! || true
done
