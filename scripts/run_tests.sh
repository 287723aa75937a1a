#!/usr/bin/env bash
# The tests in two rows side by side, since there are two cores: one of the platform, one of the science; with arguments,
# pytest with just these. The row of the science is two processes one after the other: a process with all of them crashed in
# XLA's compiler near its end. Programs that XLA compiled stay mapped as long as their process lives, so running out of
# mappings is suspected, not shown.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-.venv/bin/python}"
if [ $# -gt 0 ]; then
  exec "$python" -m pytest "$@"
fi

platform=(tests/platform tests/cli tests/k8s tests/storage tests/release)
inference=(tests/answers tests/catalog tests/classes tests/inference)
others=()
for part in tests/*/ tests/test_*.py; do
  part="${part%/}"
  [ "$part" = tests/__pycache__ ] || [[ " ${platform[*]} ${inference[*]} " == *" $part "* ]] || others+=("$part")
done
output="$(mktemp)"
trap 'rm -f "$output"; kill $(jobs -p) 2>/dev/null' EXIT
"$python" -m pytest "${platform[@]}" > "$output" 2>&1 &
"$python" -m pytest "${inference[@]}"
first=$?
"$python" -m pytest "${others[@]}"
science=$?
wait $!
status=$?
cat "$output"
[ "$first" -eq 0 ] && [ "$science" -eq 0 ] && [ "$status" -eq 0 ]
