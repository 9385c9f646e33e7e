// Memory of a training: one piece, divided by those who use it.
#pragma once
#include <cstdint>
#include <new>
#include <utility>

namespace hdnn {

// Gives out aligned parts of a piece of memory; without one it counts what is needed.
class Room {
 public:
  explicit Room(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}

  template <class T> T* take(int64_t count) {
    char* const at = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (count * static_cast<int64_t>(sizeof(T)) + kLine - 1) / kLine * kLine;
    return reinterpret_cast<T*>(at);
  }
  int64_t used() const { return used_; }

  static constexpr int64_t kLine = 64;

 private:
  char* memory_;
  int64_t used_ = 0;
};

#ifndef HDNN_SPARE_BYTES
#define HDNN_SPARE_BYTES (8 << 20)
#endif

// A piece of memory. A thread keeps one of moderate size for its next call: fresh pages cost a call of one step more
// than the step. Its numbers are those of another training: nothing may be read before it was written.
class Memory {
 public:
  explicit Memory(int64_t bytes) {
    held_.swap(spare());
    if (held_.bytes >= bytes) return;
    held_.free();
    held_.data = ::operator new(static_cast<size_t>(bytes), kAlign);
    held_.bytes = bytes;
  }
  ~Memory() {
    if (held_.bytes <= HDNN_SPARE_BYTES) held_.swap(spare());
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* data() const { return held_.data; }

 private:
  static constexpr std::align_val_t kAlign{Room::kLine};

  struct Held {
    void* data = nullptr;
    int64_t bytes = 0;
    ~Held() { free(); }
    void swap(Held& other) {
      std::swap(data, other.data);
      std::swap(bytes, other.bytes);
    }
    void free() {
      if (data != nullptr) ::operator delete(data, kAlign);
      data = nullptr, bytes = 0;
    }
  };
  static Held& spare() {
    static thread_local Held piece;
    return piece;
  }

  Held held_;
};

}  // namespace hdnn
