#!/usr/bin/env bash
# A few random kills; tests/long/kills.sh has hundreds.
# ctest timeout: 1500
set -euo pipefail
KILLS=4 STEPS=4 exec bash "${TENFOLD_SOURCE:-$(dirname "${BASH_SOURCE[0]}")/..}/tests/long/kills.sh"
