#!/usr/bin/env bash
# Runs all tests, and the services that they start, under the sanitizers: address, thread. Each has a build of its own;
# the first time takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

for sanitizer in "${@:-address thread}"; do
    for kind in $sanitizer; do
        say "Tests with the $kind sanitizer"
        # Leaks are not looked for: services are ended by signals on purpose.
        ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS="halt_on_error=1 suppressions=$PWD/config/dev/tsan.supp" \
            swift test --scratch-path ".build/$kind" --sanitize "$kind"
    done
done
