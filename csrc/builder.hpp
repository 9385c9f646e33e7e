// From a plan's plain values to moves.
#pragma once
#include <cmath>
#include <cstdint>

#include "flow.hpp"
#include "job.hpp"

namespace hdnn {

// That of the instruction set in use.
const Kernel& kernel_in_use();

inline const void* offset(const void* data, int64_t numbers, int64_t size) {
  return data == nullptr ? nullptr : static_cast<const char*>(data) + numbers * size;
}
inline void* offset(void* data, int64_t numbers, int64_t size) {
  return data == nullptr ? nullptr : static_cast<char*>(data) + numbers * size;
}

// Where the weights of one flow and their gradients lie.
struct Weights {
  const void *weight, *bias, *drive;
  void *weight_gradient, *bias_gradient, *drive_gradient;
};

struct Builder {
  const Spec& spec;
  const Weights& at;
  int64_t size;  // bytes of a number
  int64_t half = spec.features / 2;
  int64_t taps = 1;  // numbers of every entry of K and W, side by side

  Matrix matrix(const void* data, void* gradient, int64_t start, int64_t layer, int64_t row, int64_t column, bool shared,
                double sign = 1) const {
    return {offset(data, start, size), offset(gradient, start, size), shared ? 0 : layer, row, column, sign};
  }
  Matrix K(int64_t start, int64_t row, int64_t column, double sign = 1) const {
    const int64_t layer = weight_size(spec) / (spec.shared ? 1 : (spec.layers > 0 ? spec.layers : 1));
    return matrix(at.weight, at.weight_gradient, start * taps, layer * taps, row * taps, column * taps, spec.shared,
                  sign);
  }
  Matrix b(int64_t start) const {
    return matrix(at.bias, at.bias_gradient, start, spec.hidden, 1, 0, spec.shared);
  }
  Matrix W(int64_t start) const {
    const int64_t row = spec.features * taps;
    return matrix(at.drive, at.drive_gradient, start * taps, spec.hidden * row, row, taps, spec.shared_drive);
  }

  Move euler() const {
    Move move{};
    move.hidden = spec.hidden;
    move.source_count = spec.features;
    move.K = K(0, spec.features, 1);
    move.b = b(0);
    move.identity = spec.drive == Spec::identity;
    move.own = spec.drive == Spec::canonical;
    move.replaces = spec.method == Spec::perceptron;
    if (spec.drive == Spec::matrix) move.W = W(0);
    if (move.own) {  // p' = +∂H/∂q, q' = −∂H/∂p
      move.ranges = 2;
      move.range[0] = {0, half, half, 1};
      move.range[1] = {half, half, 0, -1};
    } else {
      move.ranges = 1;
      move.range[0] = {0, spec.features, 0, 1};
    }
    return move;
  }

  // The move of one half: q where `of_q`, else p.
  Move of_half(bool of_q) const {
    Move move{};
    move.source = of_q ? 0 : half;
    move.source_count = half;
    move.identity = spec.drive == Spec::identity;
    move.own = spec.drive == Spec::canonical;
    move.ranges = 1;
    move.range[0] = {of_q ? half : 0, half, 0, move.own && of_q ? -1.0 : 1.0};
    const int64_t units = spec.hidden / 2;
    switch (spec.structure) {
      case Spec::block_diagonal:  // (K_p, K_q): p is moved by K_q, q by K_p
        move.hidden = units;
        move.K = K(of_q ? 0 : units * half, half, 1);
        move.b = b(move.unit = of_q ? 0 : units);
        break;
      case Spec::off_diagonal:  // (K_1, K_2): p is moved by K_1 q, q by K_2 p
        move.hidden = units;
        move.K = K(of_q ? units * half : 0, half, 1);
        move.b = b(move.unit = of_q ? units : 0);
        break;
      case Spec::block_skew:  // p is moved by K_0 q, q by −K_0ᵀ p
        move.hidden = half;
        move.K = of_q ? K(0, 1, half, -1) : K(0, half, 1);
        move.b = b(move.unit = of_q ? half : 0);
        break;
      default: {
        const int64_t start = of_q ? spec.q_units : spec.p_units;
        move.hidden = of_q ? spec.q_count : spec.p_count;
        move.K = K(start * spec.features + move.source, spec.features, 1);
        move.b = b(move.unit = start);
        if (spec.drive == Spec::matrix) move.W = W(start * spec.features + (of_q ? half : 0));
      }
    }
    return move;
  }

  // γ = g², where g is learned: what it makes of the state now, and where its gradient goes.
  void damp(Job& job) const {
    const int64_t place = bias_size(spec) - 1;
    const void* found = offset(at.bias, place, size);
    const double g = found == nullptr ? 0 : size == 8 ? *static_cast<const double*>(found) : *static_cast<const float*>(found);
    job.decay = std::exp(-g * g * spec.step);
    job.decay_slope = -2 * g * spec.step;
    job.decay_gradient = offset(at.bias_gradient, place, size);
  }

  Job job() const {
    Job job{};
    job.features = spec.features;
    job.hidden = spec.hidden;
    job.layers = spec.layers;
    job.negative_slope = spec.negative_slope;
    job.activation = static_cast<Activation>(spec.activation);
    job.decay = 1;
    if (spec.method != Spec::partitioned) {
      // y⁺ = y + h (k₁ + 2 k₂ + 2 k₃ + k₄) / 6, where h k₁ … h k₃ are seen in the states that they lead to
      constexpr double fractions[kStages] = {0.5, 0.5, 1, 1.0 / 6};
      job.stages = spec.method == Spec::runge_kutta;
      job.moves = job.stages ? kStages : 1;
      for (int k = 0; k < job.moves; ++k) {
        job.move[k] = euler();
        job.move[k].step = job.stages ? fractions[k] * spec.step : spec.step;
      }
      return job;
    }
    job.decay = std::exp(-spec.damping);
    job.learned = spec.learned != 0;
    if (job.learned) damp(job);
    const Move halves[2] = {of_half(spec.first_is_q != 0), of_half(spec.first_is_q == 0)};
    job.moves = static_cast<int>(spec.moves);
    for (int k = 0; k < job.moves; ++k) {
      job.move[k] = halves[k % 2];
      job.move[k].step = spec.fractions[static_cast<size_t>(k)] * spec.step;
    }
    return job;
  }
};

}  // namespace hdnn
