#!/usr/bin/env bash
# Runs the kernels' own tests under valgrind, which sees every access outside what was allocated and every
# decision on numbers that nobody wrote. Needs valgrind; it knows AVX2, not AVX-512. About five minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The tests as `just test` builds them: another choice of features would build Burn anew.
tests=$(cargo test --workspace --features ndarray,wgpu --no-run --message-format=json |
  python3 -c 'import json, sys
for line in sys.stdin:
    built = json.loads(line)
    if built.get("executable") and built["target"]["name"] == "kernels" and "lib" in built["target"]["kind"]:
        print(built["executable"])')
# Few random cases: each is a hundred times slower here.
PROPTEST_CASES=${PROPTEST_CASES:-4} valgrind --quiet --error-exitcode=1 "$tests"
