// What a flow reads, made from the parameters of its network, and gradients the way back: K from free numbers, a
// learned J, W = K Jᵀ.
#pragma once
#include <cstdint>
#include <cstring>

#include "builder.hpp"
#include "room.hpp"
#include "step.hpp"
#include "training.hpp"

namespace hdnn {

template <class T> class Built {
 public:
  // Gradients by what the flow reads: those of the parts, with all of K and without J, and those of W at the end.
  struct Places {
    int64_t start[kParts + 1], W, size;
  };

  Built(const Training& training, const StepKernel& step, Room& room) : t_(training), step_(step) {
    parts_of(t_, start_);
    const int64_t n = t_.flow.features, learned = t_.J_index != nullptr ? n * n : 0;
    K_ = room.take<T>(places_K() ? weight_size(t_.flow) : 0);
    W_ = room.take<T>(drive_size(t_.flow));
    J_ = room.take<T>(learned), gJ_ = room.take<T>(learned);
    J_turned_ = room.take<T>(t_.flow.drive == Spec::matrix ? (learned ? 1 : t_.J_layers) * n * n : 0);
    gradient_ = room.take<T>(is_plain() ? 0 : start_[kParts]);
    places_ = places_of();
  }

  const Places& places() const { return places_; }

  // Once a call: a constant J.
  void begin() {
    if (t_.flow.drive != Spec::matrix || t_.J_index != nullptr) return;
    const int64_t n = t_.flow.features;
    for (int64_t l = 0; l < t_.J_layers; ++l) turn(static_cast<const T*>(t_.J) + l * n * n, J_turned_ + l * n * n);
  }

  // Once a step.
  void build(const T* parameters) {
    const int64_t n = t_.flow.features, whole = t_.flow.hidden * n;
    read_ = places_K() ? K_ : parameters + start_[weight];
    if (places_K())
      for (int64_t l = 0; l < stored(); ++l)
        place(t_.index, whole, parameters + start_[weight] + l * t_.free, K_ + l * whole);
    if (t_.J_index != nullptr) {
      place(t_.J_index, n * n, parameters + start_[interconnection], J_);
      turn(J_, J_turned_);
    }
    for (int64_t l = 0; l < drives(); ++l) {
      std::memset(W_ + l * whole, 0, static_cast<size_t>(whole) * sizeof(T));
      step_.product(kDoubles, {t_.flow.hidden, n, n, n, 1}, K_of(l), J_turned_ + J_place(l), W_ + l * whole);
    }
  }

  // Where the flow reads, and where it leaves gradients.
  Weights weights(const T* parameters, T* gradient) const {
    return {places_K() ? K_ : parameters + start_[weight],
            parameters + start_[bias],
            W_,
            gradient + places_.start[weight],
            gradient + places_.start[bias],
            gradient + places_.W};
  }

  // The gradient by the parameters, from that by what the flow reads.
  T* back(T* given) {
    if (is_plain()) return given;
    const int64_t n = t_.flow.features, m = t_.flow.hidden, whole = m * n;
    const auto zero = [](T* numbers, int64_t count) { std::memset(numbers, 0, static_cast<size_t>(count) * sizeof(T)); };
    if (t_.J_index != nullptr) zero(gJ_, n * n);
    for (int64_t l = 0; l < drives(); ++l) {
      const T* gW = given + places_.W + l * whole;
      const T* J = t_.J_index != nullptr ? J_ : static_cast<const T*>(t_.J) + J_place(l);
      step_.product(kDoubles, {m, n, n, n, 1}, gW, J, given + places_.start[weight] + K_place(l));
      if (t_.J_index != nullptr) step_.product(kDoubles, {n, n, m, 1, n}, gW, K_of(l), gJ_);
    }
    for (int k = 0; k < kParts; ++k) {
      T *const to = gradient_ + start_[k], *const from = given + places_.start[k];
      const int64_t count = start_[k + 1] - start_[k];
      if (k == interconnection || (k == weight && places_K()))
        zero(to, count);
      else
        std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
    }
    if (places_K())
      for (int64_t l = 0; l < stored(); ++l)
        unplace(t_.index, whole, given + places_.start[weight] + l * whole, gradient_ + start_[weight] + l * t_.free);
    if (t_.J_index != nullptr) unplace(t_.J_index, n * n, gJ_, gradient_ + start_[interconnection]);
    return gradient_;
  }

 private:
  static constexpr bool kDoubles = sizeof(T) == 8;

  bool places_K() const { return t_.index != nullptr; }
  bool is_plain() const { return !places_K() && t_.J_index == nullptr && t_.flow.drive != Spec::matrix; }
  int64_t stored() const { return t_.flow.shared ? 1 : t_.flow.layers; }
  int64_t drives() const {
    if (t_.flow.drive != Spec::matrix) return 0;
    return t_.flow.shared_drive ? 1 : t_.flow.layers;
  }
  int64_t K_place(int64_t layer) const { return (t_.flow.shared ? 0 : layer) * t_.flow.hidden * t_.flow.features; }
  const T* K_of(int64_t layer) const { return read_ + K_place(layer); }
  int64_t J_place(int64_t layer) const {
    return t_.J_index != nullptr || t_.J_layers == 1 ? 0 : layer * t_.flow.features * t_.flow.features;
  }

  Places places_of() const {
    Places at{};
    for (int k = 0; k < kParts; ++k) {
      int64_t count = start_[k + 1] - start_[k];
      if (k == weight) count = weight_size(t_.flow);
      if (k == interconnection) count = 0;
      at.start[k + 1] = at.start[k] + count;
    }
    at.W = at.start[kParts];
    at.size = at.W + drive_size(t_.flow);
    return at;
  }

  void turn(const T* J, T* turned) const {
    const int64_t n = t_.flow.features;
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < n; ++c) turned[c * n + r] = J[r * n + c];
  }

  static void place(const int64_t* index, int64_t count, const T* free, T* to) {
    for (int64_t i = 0; i < count; ++i)
      to[i] = index[i] > 0 ? free[index[i] - 1] : (index[i] < 0 ? -free[-index[i] - 1] : T(0));
  }
  static void unplace(const int64_t* index, int64_t count, const T* from, T* free) {
    for (int64_t i = 0; i < count; ++i) {
      if (index[i] > 0) free[index[i] - 1] += from[i];
      if (index[i] < 0) free[-index[i] - 1] -= from[i];
    }
  }

  const Training& t_;
  const StepKernel& step_;
  int64_t start_[kParts + 1];
  Places places_;
  const T* read_ = nullptr;
  T *K_, *W_, *J_, *gJ_, *J_turned_, *gradient_;
};

}  // namespace hdnn
