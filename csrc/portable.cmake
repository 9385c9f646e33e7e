# For wheels that run on old Linux: clang as Zig packs it (pip install ziglang), with the headers of glibc 2.17 and a C++
# library of its own, linked in.
#
#     CMAKE_TOOLCHAIN_FILE=csrc/portable.cmake python -m build --wheel
find_program(HDNN_ZIG python-zig REQUIRED)
set(HDNN_TARGET -target ${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu.2.17)
set(CMAKE_C_COMPILER ${HDNN_ZIG} cc ${HDNN_TARGET})
set(CMAKE_CXX_COMPILER ${HDNN_ZIG} c++ ${HDNN_TARGET})
