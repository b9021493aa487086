#!/usr/bin/env bash
# Runs every fuzz target, or those named, for some time each (SECONDS_EACH, default 600) with the address sanitizer. New
# inputs are kept under .build/fuzz-corpus; what fails is left in the current folder and ends the run.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(head body frames inflate extensions event token redis)
say "Building the fuzz targets"
GAVELCAST_FUZZ=1 swift build --sanitize address --scratch-path .build/fuzz --product gavelcast-fuzz
for target in "${targets[@]}"; do
    say "$target, ${SECONDS_EACH:-600} s"
    kept=.build/fuzz-corpus/$target
    mkdir -p "$kept"
    # Status 0 only when nothing failed: grep may find nothing, which is no fault.
    .build/fuzz/debug/gavelcast-fuzz "$target" -max_total_time="${SECONDS_EACH:-600}" -timeout=10 -max_len=20000 \
        -print_final_stats=1 -artifact_prefix="fuzz-$target-" "$kept" "fuzz/corpus/$target" 2>&1 |
        { grep -E 'ERROR|SUMMARY|Fatal|Test unit|stat::number|DONE|^#0|SAFETY' || true; } ||
        die "the target $target failed; its input is in fuzz-$target-*"
done
