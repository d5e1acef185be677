#!/bin/sh
# Builds the kernels with the address and undefined-behaviour sanitizers and runs their tests on them.
#     engine/sanitize.sh [python]
set -eu
python=${1:-python3}
here=$(cd "$(dirname "$0")" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

cmake -S "$here" -B "$build/cmake" -G Ninja -DCMAKE_BUILD_TYPE=Release -DPRUNUS_SANITIZE=ON \
    -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dnanobind_DIR="$("$python" -m nanobind --cmake_dir)" >/dev/null
cmake --build "$build/cmake"
mkdir "$build/package"
cp -r "$here/prunus_engine" "$build/package/"
rm -f "$build"/package/prunus_engine/_engine*.so
cp "$build"/cmake/_engine*.so "$build/package/prunus_engine/"

# Python itself is not built with them, so they have to be there before it; what it leaks is its own.
compiler=${CXX:-c++}
LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)" \
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH="$build/package" \
    "$python" -m pytest -q -p no:cacheprovider -p no:xdist -c "$here/pyproject.toml" --rootdir "$here" \
    "$here/tests/test_kernels.py" "$here/tests/test_refused.py"
