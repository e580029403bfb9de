#!/bin/sh
# Compare our flash-attn adapter with dense attention on a machine without a GPU: the real flash-attn package, its Triton
# kernels interpreted. Everything is pinned, because this leans on what the package happens to do; see flash_on_cpu.py.
#
#   benchmarks/flash_on_cpu.sh [FOLDER]    makes an environment of about 2 GB there (default: .venv-flash)
set -eu
cd "$(dirname "$0")/.."
environment=${1:-.venv-flash}
if [ ! -e "$environment/ready" ]; then
  "${PYTHON:-python3}" -m venv "$environment"
  pip="$environment/bin/python -m pip --disable-pip-version-check --quiet"
  $pip install torch==2.13.0 numpy==2.4.6 einops packaging psutil ninja setuptools wheel jaxtyping pydantic
  # Without CUDA the package builds only with both flags. Never cached: the wheel has no kernels, and pip would give it
  # to a later installation for a GPU.
  FLASH_ATTENTION_SKIP_CUDA_BUILD=TRUE FLASH_ATTENTION_FORCE_BUILD=TRUE \
    $pip install --no-build-isolation --no-deps --no-cache-dir flash-attn==2.8.3.post2
  $pip install --no-deps triton==3.8.0
  touch "$environment/ready"
fi
# A process of its own also because importing the AMD backend reseeds Python's global random numbers.
FLASH_ATTENTION_TRITON_AMD_ENABLE=TRUE TRITON_INTERPRET=1 PYTHONPATH=. \
  exec "$environment/bin/python" benchmarks/flash_on_cpu.py
