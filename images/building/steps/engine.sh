#!/bin/sh
# engine.sh FOLDER: llama.cpp for every arm64 processor, of its source in FOLDER/src.
set -eu
cd "$1"
# Of the forms that llama.cpp has for a CPU, two serve all boards: of Cortex-A53 and A72 (armv8.0),
# and of A76 and later, which have dot products and half precision (armv8.2).
sed -i -E '/ggml_add_cpu_backend_variant\(armv(8\.2_[13]|8\.6|9)/d' \
    src/vendor/llama.cpp/ggml/src/CMakeLists.txt
cmake -S src/vendor/llama.cpp -B cross -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
    -DBUILD_SHARED_LIBS=ON -DCMAKE_INSTALL_RPATH='$ORIGIN' -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON \
    -DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON -DGGML_OPENMP=OFF \
    -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF
cmake --build cross --target llama -j "$2"
rm -rf llama_cpp
mkdir -p llama_cpp/lib
cp src/llama_cpp/*.py llama_cpp
# The name that a program asks for: libllama.so by the bindings, the others by what needs them.
for library in libllama.so libggml.so.0 libggml-base.so.0 libggml-cpu-armv8.0_1.so libggml-cpu-armv8.2_2.so; do
    aarch64-linux-gnu-strip --strip-unneeded -o "llama_cpp/lib/$library" "cross/bin/$library"
done
rm -rf cross src env
