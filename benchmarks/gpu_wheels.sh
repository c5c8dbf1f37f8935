#!/usr/bin/env bash
# Collects the wheels that benchmarks/gpu.sh needs, for a machine that has torch but no network.
#
#     bash benchmarks/gpu_wheels.sh [FOLDER] [VERSION]
#
# FOLDER (default .wheels, which git ignores) is emptied first. VERSION is that of Python on the
# machine with the GPU (default 3.12). torch, torchvision, numpy, OpenCV, h5py, pytest and others
# are expected there; `gpu.sh` says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.wheels}
version=${2:-3.12}
python=${PYTHON:-python3}
limit=64 # MiB

get() { # from a package index, for the other machine
  "$python" -m pip download -q --only-binary=:all: --implementation cp --python-version "$version" \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    -d "$folder" "$@"
}

mkdir -p "$folder"
rm -f "$folder"/*.whl
get pydantic # and what it needs
get --no-deps timm segmentation-models-pytorch filelock ttach
"$python" -m pip wheel -q --no-deps -w "$folder" 'grad-cam>=1.5' # pure Python, no wheel on the index
if "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')"; then
  "$python" -m pip wheel -q --no-deps -w "$folder" pydensecrf2
else
  echo "no wheel of pydensecrf2: it is built by Python $version only, and $python is another version."
  echo "Without it the project computes the dense CRF itself, which takes longer."
fi
ls -l "$folder"
size=$(du -sm "$folder" | cut -f1)
if [ "$size" -gt "$limit" ]; then
  echo "$folder has $size MiB, expected at most $limit. Remove wheels that the machine has." >&2
  exit 1
fi
echo "$folder has $size MiB. Run: WHEELS=$folder bash benchmarks/gpu.sh OUT"
