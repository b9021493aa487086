# Functions that the development scripts share: finding programs, starting private servers, waiting, stopping.
# Sourced by setup.sh, run.sh and stop.sh from the project's root.

RUN="$PWD/.run"

# Bold on a terminal only.
if [ -t 1 ]; then BOLD=$'\033[1m' PLAIN=$'\033[0m'; else BOLD="" PLAIN=""; fi
say() { printf '%s==>%s %s\n' "$BOLD" "$PLAIN" "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The directory of PostgreSQL's server programs, newest version first.
postgres_bin() {
    local dir
    dir=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
    [ -x "$dir/initdb" ] || die "PostgreSQL's server programs were not found under /usr/lib/postgresql"
    echo "$dir"
}

# Runs a command as a user PostgreSQL accepts: it refuses root.
unprivileged() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --clear-groups env HOME=/tmp "$@"
    else
        "$@"
    fi
}

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# wait_for SECONDS WHAT COMMAND...: repeats the command until it succeeds; exits with an error after SECONDS.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || die "$what did not start in time; see $RUN/log"
        sleep 0.1
    done
}

# http_ok PORT PATH: succeeds if the answer's status is 200.
http_ok() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&3
    IFS= read -r -t 2 line <&3 || true
    exec 3>&-
    [[ $line == "HTTP/1.1 200"* ]]
}

# stop_pid FILE NAME [SIGNAL]: ends the process in the file if its name is still NAME, and waits for it.
stop_pid() {
    local file=$1 name=$2 signal=${3:-TERM} pid
    [ -f "$file" ] || return 0
    pid=$(head -n 1 "$file")
    if [[ $(ps -o args= -p "$pid" 2>/dev/null) == *"$name"* ]]; then
        kill -s "$signal" "$pid" 2>/dev/null || true
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -s KILL "$pid" 2>/dev/null || true
    fi
    rm -f "$file"
}
