#!/usr/bin/env bash
# Installs the system packages that building and running need, on Debian and Ubuntu. With the argument "tests", it also
# installs those of the tests; with "deb", those that make the Debian package. Does nothing if all are installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

command -v swift >/dev/null || die "no Swift toolchain: install Swift 6.2 or newer from https://www.swift.org/install"
command -v dpkg-query >/dev/null ||
    die "this is no Debian or Ubuntu: install hiredis, OpenSSL and libpq headers, a Redis and a PostgreSQL server by hand"

# package=why
needed=(
    "libhiredis-dev=speaks Redis' protocol"
    "libssl-dev=TLS, tokens and password hashes"
    "zlib1g-dev=compresses WebSocket messages"
    "libpq-dev=talks to PostgreSQL"
    "liburing-dev=the load tester's yardstick"
    "redis-server=the private Redis of make run and make test"
    "postgresql=the private PostgreSQL of make run and make test"
    "openssl=makes the certificates of tests and load runs"
    "procps=finds the processes that make stop ends"
)
if [ "${1:-}" = tests ] || [ "${1:-}" = deb ]; then
    needed+=(
        "dpkg-dev=makes the Debian package"
        "help2man=makes its man pages"
    )
fi
if [ "${1:-}" = tests ]; then
    needed+=(
        "pgbouncer=a pooler before PostgreSQL"
        "chromium=a browser that watches"
        "chromium-driver=drives the browser"
        "python3-selenium=drives the browser"
        "nodejs=runs the client library without a browser"
        "node-typescript=checks the library's types"
        "curl=a client that watches"
        "nginx-light=a proxy before the services"
        "haproxy=a proxy before the services"
        "prometheus=checks the alerts and the dashboard"
        "python3-websockets=a client that watches"
        "python3-aiohttp=a client that watches"
    )
fi
missing=()
for entry in "${needed[@]}"; do
    package=${entry%%=*}
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
        [ ${#missing[@]} -gt 0 ] || say "Installing system packages:"
        printf '    %-16s %s\n' "$package" "${entry#*=}"
        missing+=("$package")
    fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ]; then
    sudo=""
else
    command -v sudo >/dev/null || die "not root and no sudo; run as root: apt-get install ${missing[*]}"
    sudo="sudo"
fi
# The servers from these packages need not start as services: the scripts run private ones under .run.
log=$(mktemp)
if ! { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "apt-get failed; the whole output is in $log"
fi
rm -f "$log"
