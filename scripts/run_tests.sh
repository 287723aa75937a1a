#!/usr/bin/env bash
# The tests in two processes side by side, one with the platform, one with the science; with arguments, pytest with just these.
# Two, because there are two cores, and because one process with all tests crashed in XLA's compiler near its end: programs
# that XLA compiled stay mapped as long as their process lives, so running out of mappings is suspected, not shown.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-.venv/bin/python}"
if [ $# -gt 0 ]; then
  exec "$python" -m pytest "$@"
fi

platform=(tests/platform tests/cli tests/k8s tests/storage tests/release)
others=()
for part in tests/*/ tests/test_*.py; do
  part="${part%/}"
  [ "$part" = tests/__pycache__ ] || [[ " ${platform[*]} " == *" $part "* ]] || others+=("$part")
done
output="$(mktemp)"
trap 'rm -f "$output"; kill $(jobs -p) 2>/dev/null' EXIT
"$python" -m pytest "${platform[@]}" > "$output" 2>&1 &
"$python" -m pytest "${others[@]}"
science=$?
wait $!
status=$?
cat "$output"
[ "$science" -eq 0 ] && [ "$status" -eq 0 ]
