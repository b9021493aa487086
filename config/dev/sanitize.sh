#!/usr/bin/env bash
# Runs all tests, and the services that they start, under the sanitizers: address, then thread, or the ones named. Each
# has a build of its own, which takes some minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

sanitizers=("$@")
[ ${#sanitizers[@]} -gt 0 ] || sanitizers=(address thread)
for sanitizer in "${sanitizers[@]}"; do
    say "Tests with the $sanitizer sanitizer"
    # Leaks are not looked for: services are ended by signals on purpose. The growth test looks for them.
    GAVELCAST_SANITIZER=$sanitizer ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS="halt_on_error=1 suppressions=$PWD/config/dev/tsan.supp" \
        swift test --scratch-path ".build/$sanitizer" --sanitize "$sanitizer"
done
