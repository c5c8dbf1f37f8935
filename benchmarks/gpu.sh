#!/usr/bin/env bash
# Measures on one GPU, in at most eight minutes. benchmarks/README.md says how to run it.
#
#     bash benchmarks/gpu.sh OUT [--photos FOLDER] [--set section.name=value] [--only PART] [--quick]
#
# With WHEELS=FOLDER it first installs the wheels of this folder (benchmarks/gpu_wheels.sh) into a
# temporary folder, for this run alone.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl
  export PYTHONPATH="$site"
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
"${PYTHON:-python3}" benchmarks/gpu.py "$@"
