// The fused run of a whole flow, compiled once for each instruction set.
//
// A block of samples lies across the lanes: the state is n rows of `lanes` numbers that stay in the first-level cache
// through all layers. Backward recomputes the block's trajectory segment by segment from checkpoints and walks back;
// it stores nothing between calls. Everything but the table at the end is local to this file, and no standard
// container is used: a weak symbol could replace the one of another instruction set.
#include "job.hpp"

#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define HDNN_INLINE inline __attribute__((always_inline))

namespace {

using hdnn::Activation;
using hdnn::Job;
using hdnn::Layered;
using hdnn::Matrix;
using hdnn::Move;
using hdnn::kStages;

#include "math.hpp"
#include "products.hpp"
#include "square.hpp"
#include "moves.hpp"

constexpr int64_t kLayersBetween = 64;  // between two questions whether to stop
constexpr int64_t kSegmentBytes = 4 << 20;  // trajectory of a segment: memory costs less than recomputing twice
constexpr int64_t kStatesBytes = 1 << 19;   // the same where every state is known, so that no layer is computed twice

template <class T> struct Run : Moves<T> {
  using Base = Moves<T>;
  using typename Base::Vec;
  using Base::job, Base::lanes, Base::vectors;

  explicit Run(const Job& j) : Base(j) {}

  // Visits the samples of a block as runs that lie evenly in the caller's arrays: `count` of them, `step` numbers
  // apart, the first at `place`, taken by the lanes from `lane` on. A block of pixels may span images.
  template <class F> int64_t runs(int64_t block, int64_t row, F&& visit) const {
    const int64_t start = block * lanes, all = job.rows * job.pixels;
    const int64_t count = all - start < lanes ? all - start : lanes;
    if (job.pixels == 1) {
      visit(start * row, row, int64_t{0}, count);
      return count;
    }
    for (int64_t lane = 0; lane < count;) {
      const int64_t image = (start + lane) / job.pixels, pixel = (start + lane) % job.pixels;
      const int64_t left = job.pixels - pixel, run = left < count - lane ? left : count - lane;
      visit(image * row + pixel, int64_t{1}, lane, run);
      lane += run;
    }
    return count;
  }

  static void spread(int64_t count, const T* from, int64_t from_step, T* to, int64_t to_step) {
    if (from_step == 1 && to_step == 1) {
      for (int64_t k = 0; k < count; ++k) to[k] = from[k];
      return;
    }
    for (int64_t k = 0; k < count; ++k) to[k * to_step] = from[k * from_step];
  }

  // Idle lanes repeat the last sample, with a gradient of zero: a state of zeros may overflow where no sample does.
  void load(const void* from, int64_t row, int64_t feature, int64_t block, Vec* y, bool repeat) const {
    load(from, row, feature, job.features, block, y, repeat);
  }
  void load(const void* from, int64_t row, int64_t feature, int64_t features, int64_t block, Vec* y, bool repeat) const {
    const T* data = static_cast<const T*>(from);
    T* out = reinterpret_cast<T*>(y);
    const int64_t used = runs(block, row, [&](int64_t place, int64_t step, int64_t lane, int64_t count) {
      if (feature == 1) return Base::transpose(count, features, data + place, step, out + lane, lanes);
      for (int64_t i = 0; i < features; ++i) spread(count, data + place + i * feature, step, out + i * lanes + lane, 1);
    });
    for (int64_t i = 0; i < features; ++i)
      for (int64_t k = used; k < lanes; ++k) out[i * lanes + k] = repeat ? out[i * lanes + used - 1] : T(0);
  }
  // Numbers of every sample in one layer.
  void load(const Layered& all, int64_t layer, int64_t features, int64_t block, Vec* y) const {
    load(static_cast<const T*>(all.data) + layer * all.layer, all.row, all.column, features, block, y, true);
  }

  void store(void* to, int64_t row, int64_t feature, int64_t block, const Vec* y) const {
    store(to, row, feature, job.features, block, y);
  }
  void store(void* to, int64_t row, int64_t feature, int64_t features, int64_t block, const Vec* y) const {
    T* data = static_cast<T*>(to);
    const T* in = reinterpret_cast<const T*>(y);
    runs(block, row, [&](int64_t place, int64_t step, int64_t lane, int64_t count) {
      if (feature == 1) return Base::transpose(features, count, in + lane, lanes, data + place, step);
      for (int64_t i = 0; i < features; ++i) spread(count, in + i * lanes + lane, 1, data + place + i * feature, step);
    });
  }

  // What drives the units of a layer, in `room`; null where biases do.
  const Vec* driven(int64_t layer, int64_t block, Vec* room) const {
    if (job.driven.data == nullptr) return nullptr;
    load(job.driven, layer, job.hidden, block, room);
    return room;
  }
  // Rows of the units of a layer that inputs drive, or of a state that comes in between.
  int64_t between_rows() const {
    const bool any = job.driven.data != nullptr || job.g_layer != 0;
    return any ? (job.hidden > job.features ? job.hidden : job.features) : 0;
  }

  int64_t hidden_rows() const {
    int64_t rows = 0;
    for (int k = 0; k < job.moves; ++k) rows += job.move[k].hidden;
    return rows;
  }

  int64_t source_rows() const {
    int64_t rows = 0;
    for (int k = 0; k < job.moves; ++k) rows += job.move[k].source_count;
    return rows;
  }

  // Rows that one layer leaves behind for its backward step: sources, σ, and σ' for softplus; p where its decay learns.
  int64_t layer_rows() const {
    return decayed_rows() + source_rows() + hidden_rows() * (job.activation == Activation::softplus ? 2 : 1);
  }

  int64_t decayed_rows() const { return job.learned ? job.features / 2 : 0; }
  // Of the states of the stages, and of their gradients.
  int64_t spare_rows() const { return job.stages ? (kStages - 1) * job.features : 0; }

  int64_t segment() const {
    const int64_t bytes = job.states.data == nullptr ? kSegmentBytes : kStatesBytes;
    const int64_t fits = bytes / (layer_rows() * lanes * int64_t{sizeof(T)});
    if (job.states.data != nullptr) return fits < 1 || job.layers < 1 ? 1 : (fits < job.layers ? fits : job.layers);
    // Checkpoints and segments share the memory best near the square root of the depth.
    int64_t root = 1;
    while (root * root < job.layers) ++root;
    const int64_t length = fits > root ? fits : root;
    return length < job.layers ? length : (job.layers > 0 ? job.layers : 1);
  }

  int64_t segments() const { return (job.layers + segment() - 1) / segment(); }

  int64_t scratch_bytes(bool backward) const {
    const int64_t row = lanes * int64_t{sizeof(T)};
    int64_t rows = job.features + hidden_rows() + spare_rows();
    if (backward) rows += 2 * job.features + hidden_rows();
    if (backward && job.kept == nullptr) rows += segments() * job.features + segment() * layer_rows();
    return (rows + between_rows()) * row;
  }

  int64_t trajectory() const { return job.layers * layer_rows() * lanes; }

  Vec* kept(int64_t block) const {
    return job.kept == nullptr ? nullptr : static_cast<Vec*>(job.kept) + block * (trajectory() / Base::W);
  }

  // Whether to leave the rest undone; asked rarely enough to cost nothing.
  bool stopped(int64_t layer) const { return layer % kLayersBetween == 0 && job.stopped(job.team); }

  template <Activation A> void forward(int64_t first, int64_t last, void* memory) const {
    Vec* y = static_cast<Vec*>(memory);
    Vec* spare = y + job.features * vectors;
    Vec* s = spare + spare_rows() * vectors;
    Vec* room = s + hidden_rows() * vectors;
    for (int64_t block = first; block < last; ++block) {
      load(job.y, job.row_stride, job.feature_stride, block, y, true);
      Vec* left = kept(block);
      for (int64_t layer = 0; layer < job.layers; ++layer) {
        if (stopped(layer)) return;
        const Vec* u = driven(layer, block, room);
        if (left == nullptr)
          advance<A>(layer, y, s, spare, u);
        else
          record<A>(layer, y, left + layer * layer_rows() * vectors, spare, u);
        if (job.out_layer != 0)
          store(static_cast<T*>(job.out) + layer * job.out_layer, job.out_row_stride, job.out_feature_stride, block, y);
      }
      if (job.out_layer == 0) store(job.out, job.out_row_stride, job.out_feature_stride, block, y);
    }
  }

  // p ← e^(−γh) p, of states on their way forward and of gradients on their way back.
  void damp(Vec* y) const {
    if (job.decay == 1) return;
    const T decay = T(job.decay);
    for (int64_t k = 0; k < job.features / 2 * vectors; ++k) y[k] *= decay;
  }

  // The moves of a layer, each by `run(move, source, destinations)`. Stages move copies of the state, of which the last
  // but one are y + h k₁ / 2, y + h k₂ / 2 and y + h k₃.
  template <class F> HDNN_INLINE void moves(Vec* y, Vec* spare, F&& run) const {
    damp(y);
    if (!job.stages) {
      for (int k = 0; k < job.moves; ++k) run(job.move[k], y + job.move[k].source * vectors, y);
      return;
    }
    const int64_t state = job.features * vectors;
    const Vec* source = y;
    for (int k = 0; k < kStages - 1; ++k) {
      Vec* to = spare + k * state;
      copy(y, to, state);
      run(job.move[k], source, to);
      source = to;
    }
    const Vec *half = spare, *other = half + state, *whole = other + state;
    for (int64_t i = 0; i < state; ++i)
      y[i] += T(1.0 / 3) * ((half[i] - y[i]) + T(2) * (other[i] - y[i]) + (whole[i] - y[i]));
    run(job.move[kStages - 1], source, y);
  }

  template <Activation A> void advance(int64_t layer, Vec* y, Vec* s, Vec* spare, const Vec* u) const {
    moves(y, spare, [&](const Move& move, const Vec* source, Vec* to) {
      Base::template advance_move<A>(move, layer, source, to, s, nullptr, nullptr, u);
    });
  }

  // One layer, leaving behind what its backward step needs.
  template <Activation A> void record(int64_t layer, Vec* y, Vec* left, Vec* spare, const Vec* u) const {
    Vec* const decayed = left;
    left += decayed_rows() * vectors;
    moves(y, spare, [&](const Move& move, const Vec* source, Vec* to) {
      if (job.learned && &move == job.move) copy(y, decayed, decayed_rows() * vectors);
      Vec* s = left + move.source_count * vectors;
      Vec* d = s + move.hidden * vectors;
      Base::template advance_move<A>(move, layer, source, to, s, d, left, u);
      left = A == Activation::softplus ? d + move.hidden * vectors : d;
    });
  }

  template <Activation A> void backward(int64_t first, int64_t last, void* memory) const {
    const int64_t state = job.features * vectors;
    Vec* y = static_cast<Vec*>(memory);
    Vec* spare = y + state;
    Vec* s = spare + spare_rows() * vectors;
    Vec* lambda = s + hidden_rows() * vectors;
    Vec* gu = lambda + state;
    Vec* flat = gu + hidden_rows() * vectors;
    Vec* room = flat + state;
    Vec* rest = room + between_rows() * vectors;
    for (int64_t block = first; block < last; ++block) {
      if (job.g_layer == 0)
        load(job.g, job.g_row_stride, job.g_feature_stride, block, lambda, false);
      else
        for (int64_t k = 0; k < state; ++k) lambda[k] = Vec{};
      if (const Vec* left = kept(block)) {
        for (int64_t layer = job.layers - 1; layer >= 0; --layer) {
          if (stopped(layer)) return;
          step_back<A>(layer, block, left + layer * layer_rows() * vectors, lambda, gu, flat, spare, room);
        }
      } else {
        load(job.y, job.row_stride, job.feature_stride, block, y, true);
        walk_back<A>(block, y, s, lambda, gu, flat, spare, room, rest);
      }
      store(job.out, job.out_row_stride, job.out_feature_stride, block, lambda);
    }
  }

  // Walk back through a block of which only the first state is known, or the state after every layer, segment by segment
  // from checkpoints.
  template <Activation A>
  void walk_back(int64_t block, Vec* y, Vec* s, Vec* lambda, Vec* gu, Vec* flat, Vec* spare, Vec* room,
                 Vec* checkpoint) const {
    const int64_t length = segment(), count = segments(), state = job.features * vectors;
    const int64_t per_layer = layer_rows() * vectors;
    Vec* left = checkpoint + count * state;
    const bool known = job.states.data != nullptr;
    for (int64_t layer = 0; layer < (count - 1) * length && !known; ++layer) {
      if (stopped(layer)) return;
      if (layer % length == 0) copy(y, checkpoint + layer / length * state, state);
      advance<A>(layer, y, s, spare, driven(layer, block, room));
    }
    if (known)
      copy(y, checkpoint, state);
    else if (count > 0)
      copy(y, checkpoint + (count - 1) * state, state);
    for (int64_t part = count - 1; part >= 0; --part) {
      const int64_t start = part * length, stop = start + length < job.layers ? start + length : job.layers;
      if (known && start > 0)
        load(job.states, start - 1, job.features, block, y);
      else
        copy(checkpoint + part * state, y, state);
      for (int64_t layer = start; layer < stop; ++layer) {
        if (stopped(layer)) return;
        record<A>(layer, y, left + (layer - start) * per_layer, spare, driven(layer, block, room));
      }
      for (int64_t layer = stop - 1; layer >= start; --layer) {
        if (stopped(layer)) return;
        step_back<A>(layer, block, left + (layer - start) * per_layer, lambda, gu, flat, spare, room);
      }
    }
  }

  // λ of the state before a layer; where inputs drive it, also the gradient of what drives every sample.
  template <Activation A>
  void step_back(int64_t layer, int64_t block, const Vec* left, Vec* lambda, Vec* gu, Vec* flat, Vec* spare,
                 Vec* room) const {
    if (job.g_layer != 0) {
      const T* g = static_cast<const T*>(job.g) + layer * job.g_layer;
      load(g, job.g_row_stride, job.g_feature_stride, block, room, false);
      for (int64_t k = 0; k < job.features * vectors; ++k) lambda[k] += room[k];
    }
    const bool to_driven = job.driven_gradient != nullptr && job.driven.data != nullptr;
    for (int64_t k = 0; to_driven && k < job.hidden * vectors; ++k) room[k] = Vec{};
    const Vec* of_move = left + layer_rows() * vectors;
    const auto back = [&](int k, const Vec* from, Vec* to) {
      const Move& move = job.move[k];
      of_move -= rows_of(move, A) * vectors;
      Base::template move_back<A>(move, layer, of_move, from, to, gu, flat);
      Vec* of_units = room + move.unit * vectors;
      for (int64_t i = 0; to_driven && i < move.hidden * vectors; ++i) of_units[i] += gu[i];
    };
    if (job.stages)
      stages_back(lambda, spare, back);
    else
      for (int k = job.moves - 1; k >= 0; --k) back(k, lambda, lambda + job.move[k].source * vectors);
    if (job.learned && job.weights_too) add_decay_gradient(left, lambda);
    damp(lambda);
    if (!to_driven) return;
    T* to = static_cast<T*>(job.driven_gradient) + layer * job.rows * job.hidden;
    store(to, job.hidden, 1, job.hidden, block, room);
  }

  // `moves` of stages back: the gradient of every state is complete before its move goes back.
  template <class F> void stages_back(Vec* lambda, Vec* spare, F&& back) const {
    const int64_t state = job.features * vectors;
    for (int64_t i = 0; i < state; ++i) {
      const Vec third = T(1.0 / 3) * lambda[i];
      spare[i] = third, spare[state + i] = T(2) * third, spare[2 * state + i] = third;
    }
    back(kStages - 1, lambda, spare + 2 * state);
    for (int64_t i = 0; i < state; ++i) lambda[i] *= T(-1.0 / 3);
    for (int k = kStages - 2; k >= 0; --k) {
      const Vec* from = spare + k * state;
      back(k, from, k > 0 ? spare + (k - 1) * state : lambda);
      for (int64_t i = 0; i < state; ++i) lambda[i] += from[i];
    }
  }

  // d/dg of p ← decay(g) p, from p after it.
  void add_decay_gradient(const Vec* p, const Vec* lambda) const {
    Vec sum[1] = {};
    for (int64_t k = 0; k < decayed_rows() * vectors; ++k) sum[0] += lambda[k] * p[k];
    *static_cast<T*>(job.decay_gradient) += T(job.decay_slope) * Base::template sums<1>(sum)[0];
  }

  static int64_t rows_of(const Move& move, Activation a) {
    return move.source_count + move.hidden * (a == Activation::softplus ? 2 : 1);
  }

  static void copy(const Vec* from, Vec* to, int64_t count) {
    for (int64_t k = 0; k < count; ++k) to[k] = from[k];
  }

  template <Activation A> void go(bool back, int64_t first, int64_t last, void* memory) const {
    if (back)
      backward<A>(first, last, memory);
    else
      forward<A>(first, last, memory);
  }

  void dispatch(bool back, int64_t first, int64_t last, void* memory) const {
    switch (job.activation) {
      case Activation::identity: go<Activation::identity>(back, first, last, memory); break;
      case Activation::relu: go<Activation::relu>(back, first, last, memory); break;
      case Activation::leaky_relu: go<Activation::leaky_relu>(back, first, last, memory); break;
      case Activation::tanh: go<Activation::tanh>(back, first, last, memory); break;
      case Activation::sigmoid: go<Activation::sigmoid>(back, first, last, memory); break;
      case Activation::softplus: go<Activation::softplus>(back, first, last, memory); break;
    }
  }
};

int64_t lanes(bool doubles, int64_t features, int64_t samples) {
  return doubles ? lanes_for<double>(features, samples) : lanes_for<float>(features, samples);
}

int64_t scratch(bool doubles, const Job& job, bool backward) {
  return doubles ? Run<double>(job).scratch_bytes(backward) : Run<float>(job).scratch_bytes(backward);
}

int64_t trajectory(bool doubles, const Job& job) {
  return doubles ? Run<double>(job).trajectory() : Run<float>(job).trajectory();
}

template <bool Back> void run(bool doubles, const Job& job, int64_t first, int64_t last, void* memory) {
  if (doubles)
    Run<double>(job).dispatch(Back, first, last, memory);
  else
    Run<float>(job).dispatch(Back, first, last, memory);
}

}  // namespace

namespace hdnn {
extern const Kernel HDNN_KERNEL;
const Kernel HDNN_KERNEL = {HDNN_KERNEL_NAME, lanes, scratch, trajectory, run<false>, run<true>};
}  // namespace hdnn
