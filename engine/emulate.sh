#!/bin/sh
# Builds the kernels for AArch64 and runs their tests on an emulated processor, whose time says nothing of a real one's.
# On Debian 12, once, as root:
#     dpkg --add-architecture arm64 && apt-get update
#     apt-get install --no-install-recommends g++-aarch64-linux-gnu qemu-user cmake ninja-build python3-pip
# Then, where what is fetched and built stays in the folder (300 MB) and further arguments are pytest's:
#     engine/emulate.sh [folder [argument...]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-${TMPDIR:-/tmp}/prunus-aarch64}
[ $# -eq 0 ] || shift
mkdir -p "$work"
work=$(cd "$work" && pwd)

# Python and what it is linked to, as Debian has them, and wheels for it.
if [ ! -e "$work/root/usr/bin/python3.11" ]; then
    mkdir -p "$work/packages"
    (cd "$work/packages" && apt-get download libc6:arm64 libgcc-s1:arm64 libstdc++6:arm64 zlib1g:arm64 \
        libexpat1:arm64 libffi8:arm64 libssl3:arm64 libbz2-1.0:arm64 liblzma5:arm64 python3.11-minimal:arm64 \
        libpython3.11-minimal:arm64 libpython3.11-stdlib:arm64 libpython3.11-dev:arm64)
    for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/root"; done
fi
if [ ! -e "$work/wheels/pytest" ]; then
    python3 -m pip install --quiet --target "$work/wheels" --platform manylinux_2_28_aarch64 \
        --platform manylinux2014_aarch64 --python-version 3.11 --only-binary=:all: \
        'nanobind>=3.1,<4' numpy onnx pytest hypothesis
fi
cat >"$work/python" <<END
#!/bin/sh
exec qemu-aarch64 -L "$work/root" "$work/root/usr/bin/python3.11" "\$@"
END
chmod +x "$work/python"

# CMake asks the emulated Python for the module's name; Debian's headers look for others beside them.
cmake -S "$here" -B "$work/cmake" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux \
    -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
    -DCMAKE_CXX_FLAGS="-idirafter $work/root/usr/include" -DPython_EXECUTABLE="$work/python" \
    -DPython_INCLUDE_DIR="$work/root/usr/include/python3.11" -Dnanobind_DIR="$work/wheels/nanobind/cmake" >/dev/null
cmake --build "$work/cmake"
rm -rf "$work/package"
mkdir "$work/package"
cp -r "$here/prunus_engine" "$work/package/"
rm -f "$work"/package/prunus_engine/_engine*.so
cp "$work"/cmake/_engine*.so "$work/package/prunus_engine/"
# ONNX Runtime ends in a segmentation fault in QEMU 7.2; kernels do without it.
echo 'OrtValue = object' >"$work/package/onnxruntime.py"

PYTHONPATH="$work/package:$work/wheels" "$work/python" -m pytest -q -p no:cacheprovider \
    -c "$here/pyproject.toml" --rootdir "$here" "$@" "$here/tests/test_kernels.py" "$here/tests/test_refused.py"
