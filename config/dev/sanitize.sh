#!/usr/bin/env bash
# Runs the tests under the named sanitizers; without arguments, under address and then thread. Each sanitizer has its
# own build, which takes a few minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

sanitizers=("$@")
[ ${#sanitizers[@]} -gt 0 ] || sanitizers=(address thread)
for sanitizer in "${sanitizers[@]}"; do
    say "Tests with the $sanitizer sanitizer"
    # Leak detection is off, because tests end services by signals on purpose. The growth test looks for leaks.
    export GAVELCAST_SANITIZER=$sanitizer ASAN_OPTIONS=detect_leaks=0
    export TSAN_OPTIONS="halt_on_error=1 report_thread_leaks=0 suppressions=$PWD/config/dev/tsan.supp"
    run=(swift test --scratch-path ".build/$sanitizer" --sanitize "$sanitizer")
    if [ "$sanitizer" = thread ]; then
        # The load engine's many threads share a Mutex, and the sanitizer reports each access as a race. So the
        # end-to-end tests run without the sanitizer, against services built with it.
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
