#!/usr/bin/env bash
# Runs the kernels' unit tests under valgrind, which reports accesses outside of allocated memory and branches on
# uninitialized values. Needs valgrind, which supports AVX2 but not AVX-512. Takes about five minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The same features as `just test`: others would rebuild Burn.
tests=$(cargo test --workspace --features ndarray,wgpu --no-run --message-format=json |
  python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "kernels" and "lib" in message["target"]["kind"]:
        print(message["executable"])')
# Few random cases: they are a hundred times slower under valgrind.
PROPTEST_CASES=${PROPTEST_CASES:-4} valgrind --quiet --error-exitcode=1 "$tests"
