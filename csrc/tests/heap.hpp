// The heap of the sanitized programs: scratch starts as NaN, so that reading it unwritten is caught.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

void* full_of_nan(size_t bytes, size_t align) {
  void* memory = nullptr;
  if (posix_memalign(&memory, align, bytes) != 0) throw std::bad_alloc();
  return std::memset(memory, 0xff, bytes);  // all ones is NaN in both precisions
}

}  // namespace

// The scratch of the kernels comes from here.
void* operator new(size_t bytes, std::align_val_t align) { return full_of_nan(bytes, static_cast<size_t>(align)); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
