#!/usr/bin/env bash
# Runs every fuzz target, or the named ones, with the address sanitizer, for SECONDS_EACH each (default 600). New inputs
# go to .build/fuzz-corpus. An input that fails ends the run and stays in the current folder.
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
    # The pipeline must fail only if the target fails, so an empty result of grep counts as success.
    .build/fuzz/debug/gavelcast-fuzz "$target" -max_total_time="${SECONDS_EACH:-600}" -timeout=10 -max_len=20000 \
        -print_final_stats=1 -artifact_prefix="fuzz-$target-" "$kept" "fuzz/corpus/$target" 2>&1 |
        { grep -E 'ERROR|SUMMARY|Fatal|Test unit|stat::number|DONE|^#0|SAFETY' || true; } ||
        die "the target $target failed; its input is in fuzz-$target-*"
done
