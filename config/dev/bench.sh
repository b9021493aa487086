#!/usr/bin/env bash
# Runs load scenarios with release builds and prints their figures; the reports go to loadtest/reports.
# Without arguments, it runs the quick scenarios in about seven minutes. A missed goal is reported but is not a failure.
# A failed audit is.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

scenarios=("$@")
[ ${#scenarios[@]} -gt 0 ] || scenarios=(one-hot-auction many-auctions connect-storm idle-memory idle-memory-sse
    resume-storm slow-consumers overload redis-outage rolling-restart tls)
config/dev/setup.sh
for product in gavelcast-gateway gavelcast-loadtest; do
    say "Building $product (release)"
    swift build -c release --product "$product"
done
reports=loadtest/reports
mkdir -p "$reports"
status=0
for scenario in "${scenarios[@]}"; do
    say "$scenario"
    .build/release/gavelcast-loadtest run "$scenario" --reports "$reports" --quiet | tee "$reports/$scenario.txt" || status=1
done
say "Goals"
for scenario in "${scenarios[@]}"; do
    grep -E ' (met|missed) *$' "$reports/$scenario.txt" | sed "s|^|$scenario: |" || true
done
exit $status
