#!/usr/bin/env bash
# Runs the tests under the sanitizers: address, then thread, or the ones named. Each has a build of its own, which takes
# some minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

sanitizers=("$@")
[ ${#sanitizers[@]} -gt 0 ] || sanitizers=(address thread)
for sanitizer in "${sanitizers[@]}"; do
    say "Tests with the $sanitizer sanitizer"
    # Leaks are not looked for: services are ended by signals on purpose. The growth test looks for them.
    export GAVELCAST_SANITIZER=$sanitizer ASAN_OPTIONS=detect_leaks=0
    export TSAN_OPTIONS="halt_on_error=1 report_thread_leaks=0 suppressions=$PWD/config/dev/tsan.supp"
    run=(swift test --scratch-path ".build/$sanitizer" --sanitize "$sanitizer")
    if [ "$sanitizer" = thread ]; then
        # The load engine's many threads share a Mutex, which the sanitizer takes for a race each time; so end-to-end
        # tests run as they are, against services built with the sanitizer.
        "${run[@]}" --skip EndToEndTests
        swift build --build-tests
        programs=$PWD/.build/thread/programs
        mkdir -p "$programs"
        ln -sf "$PWD"/.build/thread/debug/gavelcast-{gateway,bidapi} "$PWD/.build/debug/gavelcast-loadtest" "$programs"
        GAVELCAST_PROGRAMS=$programs swift test --skip-build --filter EndToEndTests
    else
        "${run[@]}"
    fi
done
