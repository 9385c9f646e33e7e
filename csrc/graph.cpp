// All layers of a flow on a graph, for a few samples, compiled once for each instruction set.
//
// All of their nodes lie across the lanes, in one block; the sums over edges are taken of copies with the features of a
// node side by side. Everything but the table at the end is local to this file, as in kernel.cpp.
#include "graph.hpp"

#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define HDNN_INLINE inline __attribute__((always_inline))

namespace {

using hdnn::Activation;
using hdnn::Edges;
using hdnn::Job;
using hdnn::kMostMoves;
using hdnn::Matrix;
using hdnn::Move;

#include "math.hpp"
#include "products.hpp"
#include "square.hpp"
#include "moves.hpp"

constexpr int64_t kLayersBetween = 64;  // between two questions whether to stop

template <class T> struct Walk : Moves<T> {
  using Base = Moves<T>;
  using typename Base::Part;
  using typename Base::Vec;
  using Base::G;
  using Base::job, Base::lanes, Base::vectors;

  // A move, of which K₀ and W₀ are read in columns two apart: `near` has K₁ and W₁, `wide` both, for rows x₀ (A x)₀ x₁ …
  struct Taps {
    Move own, near, wide;
  };

  const Edges there, back;
  Taps taps[kMostMoves];

  Walk(const Job& j, const Edges& forth, const Edges& home) : Base(j, block_of(j.rows)), there(forth), back(home) {
    for (int k = 0; k < j.moves; ++k) taps[k] = taps_of(j.move[k]);
  }

  static int64_t block_of(int64_t rows) {
    constexpr int64_t tile = int64_t{kColumns} * Simd<T>::W;
    return (rows + tile - 1) / tile * tile;
  }

  static Matrix second(Matrix m) {
    m.data = m.data == nullptr ? nullptr : static_cast<const T*>(m.data) + 1;
    return m;
  }
  static Taps taps_of(const Move& move) {
    Taps found{move, move, move};
    found.near.K = second(move.K), found.near.W = second(move.W);
    found.wide.source_count *= 2;
    found.wide.K.column = found.wide.W.column = 1;
    for (int g = 0; g < move.ranges; ++g) {  // counted from the first destination
      const auto& range = move.range[g];
      found.wide.range[g] = {2 * (range.start - move.range[0].start), 2 * range.count, 2 * range.column, range.sign};
    }
    return found;
  }

  static int64_t destinations(const Move& move) { return move.range[0].count * move.ranges; }
  // What a move leaves behind: its sources beside their sums, σ, and σ' for softplus.
  int64_t rows_of(const Taps& move) const {
    return move.wide.source_count + move.own.hidden * (job.activation == Activation::softplus ? 2 : 1);
  }
  int64_t layer_rows() const {
    int64_t rows = 0;
    for (int k = 0; k < job.moves; ++k) rows += rows_of(taps[k]);
    return rows;
  }
  int64_t trajectory() const { return job.layers * layer_rows() * lanes; }

  int64_t most_rows() const { return job.hidden > job.features ? job.hidden : job.features; }
  static int64_t padded(int64_t count) { return (count + G - 1) / G * G; }

  // Forward: y, sums, what a layer leaves. Backward: λ, sums, λ beside its sums, g_u, room for products. Then two copies.
  int64_t scratch_bytes() const {
    const int64_t forward = layer_rows(), backward = 4 * job.features + job.hidden;
    const int64_t rows = job.features + job.hidden + (forward > backward ? forward : backward);
    return (rows + 2 * padded(most_rows())) * lanes * int64_t{sizeof(T)};
  }

  static void copy(const Vec* from, Vec* to, int64_t count) {
    for (int64_t k = 0; k < count; ++k) to[k] = from[k];
  }

  // Idle lanes repeat the last node, or are zero where gradients are.
  void load(const void* from, Vec* to, bool repeat) const {
    T* out = reinterpret_cast<T*>(to);
    Base::transpose(job.rows, job.features, static_cast<const T*>(from), job.features, out, lanes);
    for (int64_t i = 0; i < job.features; ++i)
      for (int64_t k = job.rows; k < lanes; ++k) out[i * lanes + k] = repeat ? out[i * lanes + job.rows - 1] : T(0);
  }
  void store(const Vec* from, void* to) const {
    Base::transpose(job.features, job.rows, reinterpret_cast<const T*>(from), lanes, static_cast<T*>(to), job.features);
  }

  // out[i] = Σ w x[start] over the edges that end at i, of some columns of rows that are `row` numbers apart
  template <class Columns, bool Weighted>
  void sum(const Edges& edges, const T* x, T* out, int64_t row) const {
    const T* weight = static_cast<const T*>(edges.weight);
    for (int64_t sample = 0; sample < job.rows; sample += edges.nodes, x += edges.nodes * row) {
      for (int64_t i = 0; i < edges.nodes; ++i, out += row) {
        Columns total{};
        for (int64_t k = edges.first[i]; k < edges.first[i + 1]; ++k) {
          Columns each;
          __builtin_memcpy(&each, x + edges.start[k] * row, sizeof each);
          total += Weighted ? weight[k] * each : each;
        }
        __builtin_memcpy(out, &total, sizeof total);
      }
    }
  }
  template <bool Weighted> void sum_all(const Edges& edges, const T* x, T* out, int64_t row) const {
    int64_t column = 0;
    for (; column + Base::W <= row; column += Base::W) sum<Vec, Weighted>(edges, x + column, out + column, row);
    for (; column < row; column += G) sum<Part, Weighted>(edges, x + column, out + column, row);
  }

  // The sums of some rows, written to rows `step` apart; `room` has place for two copies, zeros where none was written.
  void summed(int64_t count, const Vec* x, const Edges& edges, bool repeat, Vec* to, int64_t step, T* room) const {
    const int64_t row = padded(count);
    T* out = room + row * lanes;
    Base::transpose(count, job.rows, reinterpret_cast<const T*>(x), lanes, room, row);
    if (edges.weight == nullptr)
      sum_all<false>(edges, room, out, row);
    else
      sum_all<true>(edges, room, out, row);
    for (int64_t k = job.rows; k < lanes; ++k)
      for (int64_t i = 0; i < row; ++i) out[k * row + i] = repeat ? out[(job.rows - 1) * row + i] : T(0);
    Base::transpose(lanes, count, out, row, reinterpret_cast<T*>(to), step * lanes);
  }

  // Rows x₀ (A x)₀ x₁ …
  void beside(int64_t count, const Vec* x, bool repeat, Vec* to, T* room) const {
    for (int64_t i = 0; i < count; ++i) copy(x + i * vectors, to + 2 * i * vectors, vectors);
    summed(count, x, there, repeat, to + vectors, 2, room);
  }

  void damp(Vec* y) const {
    if (job.decay == 1) return;
    for (int64_t k = 0; k < job.features / 2 * vectors; ++k) y[k] *= T(job.decay);
  }

  bool stopped(int64_t layer) const { return layer % kLayersBetween == 0 && job.stopped(job.team); }

  // Zeros, so that no number is read unwritten: columns that fill a part up are summed, too.
  T* cleared(Vec* rows) const {
    T* room = reinterpret_cast<T*>(rows);
    for (int64_t k = 0; k < 2 * padded(most_rows()) * lanes; ++k) room[k] = T(0);
    return room;
  }

  template <Activation A> void forward(Vec* y) const {
    Vec* sums = y + job.features * vectors;
    Vec* layer_left = sums + job.hidden * vectors;
    T* room = cleared(layer_left + layer_rows() * vectors);
    load(job.y, y, true);
    for (int64_t layer = 0; layer < job.layers; ++layer) {
      if (stopped(layer)) return;
      damp(y);
      Vec* left = job.kept == nullptr ? layer_left : static_cast<Vec*>(job.kept) + layer * layer_rows() * vectors;
      for (int k = 0; k < job.moves; ++k) {
        const Taps& move = taps[k];
        const int64_t hidden = move.own.hidden;
        Vec* s = left + move.wide.source_count * vectors;
        beside(move.own.source_count, y + move.own.source * vectors, true, left, room);
        Base::template activate_rows<A>(move.wide, layer, left, s, s + hidden * vectors, nullptr);
        Base::drive(move.own, layer, s, y);
        left += rows_of(move) * vectors;
        if (move.own.identity) continue;
        summed(hidden, s, back, true, sums, 1, room);
        Base::drive(move.near, layer, sums, y);
      }
    }
    store(y, job.out);
  }

  template <Activation A> void backward(Vec* lambda) const {
    Vec* sums = lambda + job.features * vectors;
    Vec* both = sums + job.hidden * vectors;
    Vec* gu = both + 2 * job.features * vectors;
    Vec* flat = gu + job.hidden * vectors;
    T* room = cleared(flat + 2 * job.features * vectors);
    load(job.g, lambda, false);
    for (int64_t layer = job.layers - 1; layer >= 0; --layer) {
      if (stopped(layer)) return;
      const Vec* left = static_cast<const Vec*>(job.kept) + (layer + 1) * layer_rows() * vectors;
      for (int k = job.moves - 1; k >= 0; --k) {
        left -= rows_of(taps[k]) * vectors;
        move_back<A>(taps[k], layer, left, lambda, sums, both, gu, flat, room);
      }
      damp(lambda);
    }
    store(lambda, job.out);
  }

  // λ of the sources of a move, and the gradients of its numbers: those of W are sums of σ and λ beside A λ.
  template <Activation A>
  void move_back(const Taps& move, int64_t layer, const Vec* source, Vec* lambda, Vec* sums, Vec* both, Vec* gu,
                 Vec* flat, T* room) const {
    const int64_t hidden = move.own.hidden, sources = move.wide.source_count;
    const Vec* s = source + sources * vectors;
    const Vec* d = s + hidden * vectors;
    if (move.own.identity) {
      Base::template pull<A>(move.own, layer, lambda, s, d, gu);
    } else {
      beside(destinations(move.own), lambda + move.own.range[0].start * vectors, false, both, room);
      if (job.weights_too) Base::add_drive_gradient(move.wide, layer, s, both, flat);
      Base::template pull<A>(move.wide, layer, both, s, d, gu);
    }
    summed(hidden, gu, back, false, sums, 1, room);
    Base::push(move.own, layer, gu, lambda + move.own.source * vectors);
    Base::push(move.near, layer, sums, lambda + move.own.source * vectors);
    if (!job.weights_too) return;
    const Matrix& K = move.wide.K;
    Base::add_outer(hidden, gu, sources, source, T(K.sign), Base::gradient_at(K, layer), K.row, K.column, flat);
    Base::add_rows(hidden, gu, Base::gradient_at(move.own.b, layer), move.own.b.row);
  }

  template <Activation A> void go(bool returning, void* memory) const {
    Vec* first = static_cast<Vec*>(memory);
    if (returning)
      backward<A>(first);
    else
      forward<A>(first);
  }

  void dispatch(bool returning, void* memory) const {
    switch (job.activation) {
      case Activation::identity: go<Activation::identity>(returning, memory); break;
      case Activation::relu: go<Activation::relu>(returning, memory); break;
      case Activation::leaky_relu: go<Activation::leaky_relu>(returning, memory); break;
      case Activation::tanh: go<Activation::tanh>(returning, memory); break;
      case Activation::sigmoid: go<Activation::sigmoid>(returning, memory); break;
      case Activation::softplus: go<Activation::softplus>(returning, memory); break;
    }
  }
};

int64_t scratch(bool doubles, const Job& job) {
  return doubles ? Walk<double>(job, {}, {}).scratch_bytes() : Walk<float>(job, {}, {}).scratch_bytes();
}

int64_t trajectory(bool doubles, const Job& job) {
  return doubles ? Walk<double>(job, {}, {}).trajectory() : Walk<float>(job, {}, {}).trajectory();
}

template <bool Back>
void run(bool doubles, const Job& job, const Edges& there, const Edges& back, void* memory) {
  if (doubles)
    Walk<double>(job, there, back).dispatch(Back, memory);
  else
    Walk<float>(job, there, back).dispatch(Back, memory);
}

}  // namespace

namespace hdnn {
extern const GraphKernel HDNN_GRAPH;
const GraphKernel HDNN_GRAPH = {HDNN_KERNEL_NAME, scratch, trajectory, run<false>, run<true>};
}  // namespace hdnn
