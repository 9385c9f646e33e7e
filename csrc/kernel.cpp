// The fused run of a whole flow, compiled once for each instruction set.
//
// A block of samples lies across the lanes: the state is n rows of `lanes` numbers that stay in the first-level cache
// through all layers. Backward recomputes the block's trajectory segment by segment from checkpoints and walks back;
// it stores nothing between calls. Everything but the table at the end is local to this file, and no standard
// container is used: a weak symbol could replace the one of another instruction set.
#include "job.hpp"

#include <type_traits>
#include <utility>

#define HDNN_INLINE inline __attribute__((always_inline))

namespace {

#include "math.hpp"
#include "products.hpp"

using hdnn::Activation;
using hdnn::Job;
using hdnn::Matrix;
using hdnn::Move;

constexpr int64_t kSegmentBytes = 4 << 20;  // trajectory of a segment: memory costs less than recomputing twice

template <class T> int64_t lanes_for(int64_t features) {
  const int64_t tile = int64_t{kColumns} * Simd<T>::W;
  const int64_t wanted = (features <= 32 ? 512 : 256) / int64_t{sizeof(T)};
  return wanted < tile ? tile : wanted / tile * tile;
}

template <class T> struct Run : Products<T> {
  using Base = Products<T>;
  using typename Base::Vec;
  using Base::add_outer, Base::add_rows, Base::lanes, Base::vectors;

  const Job& job;
  T h, negative_slope;

  explicit Run(const Job& j)
      : Base(lanes_for<T>(j.features)), job(j), h(T(j.step)), negative_slope(T(j.negative_slope)) {}

  static const T* at(const Matrix& m, int64_t layer) { return static_cast<const T*>(m.data) + layer * m.layer; }
  static T* gradient_at(const Matrix& m, int64_t layer) { return static_cast<T*>(m.gradient) + layer * m.layer; }

  // s = σ(K y_src + b); d = σ' for softplus
  template <Activation A> void activate_rows(const Move& move, int64_t layer, const Vec* source, Vec* s, Vec* d) const {
    const T* K = at(move.K, layer);
    const T* b = at(move.b, layer);
    const T sign = T(move.K.sign);
    Base::tiles(move.hidden, [&](int64_t r, auto size) {
      constexpr int R = decltype(size)::value;
      for (int64_t c = 0; c < vectors; c += kColumns) {
        Vec acc[R][kColumns] = {};
        Base::template multiply<R>(move.source_count, K + r * move.K.row, move.K.row, move.K.column, source + c, vectors, acc);
        for (int j = 0; j < R; ++j) {
          const T bias = b[(r + j) * move.b.row];
          for (int k = 0; k < kColumns; ++k) {
            Vec derivative{};
            const int64_t place = (r + j) * vectors + c + k;
            s[place] = activate<T, A>(acc[j][k] * sign + bias, negative_slope, derivative);
            if (A == Activation::softplus && d != nullptr) d[place] = derivative;
          }
        }
      }
    });
  }

  // y_dst += h D s
  void drive(const Move& move, int64_t layer, const Vec* s, Vec* y) const {
    for (int g = 0; g < move.ranges; ++g) {
      const auto& range = move.range[g];
      Vec* target = y + range.start * vectors;
      if (move.identity) {
        for (int64_t k = 0; k < range.count * vectors; ++k) target[k] += h * s[range.column * vectors + k];
        continue;
      }
      const Matrix& matrix = move.own ? move.K : move.W;
      const T* A = at(matrix, layer) + range.column * matrix.column;
      const T factor = h * T(range.sign) * T(matrix.sign);
      Base::tiles(range.count, [&](int64_t i, auto size) {
        constexpr int R = decltype(size)::value;
        for (int64_t c = 0; c < vectors; c += kColumns) {
          Vec acc[R][kColumns] = {};
          Base::template multiply<R>(move.hidden, A + i * matrix.column, matrix.column, matrix.row, s + c, vectors, acc);
          for (int j = 0; j < R; ++j)
            for (int k = 0; k < kColumns; ++k) target[(i + j) * vectors + c + k] += factor * acc[j][k];
        }
      });
    }
  }

  // g_u = h Dᵀ λ_dst · σ'
  template <Activation A>
  void pull(const Move& move, int64_t layer, const Vec* lambda, const Vec* s, const Vec* d, Vec* gu) const {
    const Matrix& matrix = move.own ? move.K : move.W;
    Base::tiles(move.hidden, [&](int64_t r, auto size) {
      constexpr int R = decltype(size)::value;
      for (int64_t c = 0; c < vectors; c += kColumns) {
        Vec sum[R][kColumns] = {};
        for (int g = 0; g < move.ranges; ++g) {
          const auto& range = move.range[g];
          const Vec* target = lambda + range.start * vectors;
          if (move.identity) {
            for (int j = 0; j < R; ++j)
              for (int k = 0; k < kColumns; ++k)
                if (r + j >= range.column && r + j < range.column + range.count)
                  sum[j][k] += h * target[(r + j - range.column) * vectors + c + k];
            continue;
          }
          Vec acc[R][kColumns] = {};
          const T* A0 = at(matrix, layer) + range.column * matrix.column + r * matrix.row;
          Base::template multiply<R>(range.count, A0, matrix.row, matrix.column, target + c, vectors, acc);
          const T factor = h * T(range.sign) * T(matrix.sign);
          for (int j = 0; j < R; ++j)
            for (int k = 0; k < kColumns; ++k) sum[j][k] += factor * acc[j][k];
        }
        for (int j = 0; j < R; ++j)
          for (int k = 0; k < kColumns; ++k) {
            const int64_t place = (r + j) * vectors + c + k;
            const Vec slope = A == Activation::softplus ? d[place] : slope_of<T, A>(s[place], negative_slope);
            gu[place] = sum[j][k] * slope;
          }
      }
    });
  }

  // λ_src += Kᵀ g_u
  void push(const Move& move, int64_t layer, const Vec* gu, Vec* lambda) const {
    const T* K = at(move.K, layer);
    const T sign = T(move.K.sign);
    Vec* target = lambda + move.source * vectors;
    Base::tiles(move.source_count, [&](int64_t i, auto size) {
      constexpr int R = decltype(size)::value;
      for (int64_t c = 0; c < vectors; c += kColumns) {
        Vec acc[R][kColumns] = {};
        Base::template multiply<R>(move.hidden, K + i * move.K.column, move.K.column, move.K.row, gu + c, vectors, acc);
        for (int j = 0; j < R; ++j)
          for (int k = 0; k < kColumns; ++k) target[(i + j) * vectors + c + k] += sign * acc[j][k];
      }
    });
  }

  void add_drive_gradient(const Move& move, int64_t layer, const Vec* s, const Vec* lambda, Vec* flat) const {
    if (move.identity) return;
    const Matrix& matrix = move.own ? move.K : move.W;
    for (int g = 0; g < move.ranges; ++g) {
      const auto& range = move.range[g];
      T* out = gradient_at(matrix, layer) + range.column * matrix.column;
      add_outer(move.hidden, s, range.count, lambda + range.start * vectors, h * T(range.sign) * T(matrix.sign), out,
                matrix.row, matrix.column, flat);
    }
  }

  // Rows and lanes of a block in the caller's arrays.
  struct Place {
    int64_t row, pixel, count;
  };

  Place place(int64_t block, int64_t row_count) const {
    if (job.pixels == 1) {
      const int64_t start = block * lanes;
      return {start, 0, row_count - start < lanes ? row_count - start : lanes};
    }
    const int64_t each = hdnn::blocks_in_row(job, lanes), pixel = block % each * lanes;
    return {block / each, pixel, job.pixels - pixel < lanes ? job.pixels - pixel : lanes};
  }

  // Idle lanes repeat the last sample, with a gradient of zero: a state of zeros may overflow where no sample does.
  void load(const void* from, int64_t row, int64_t feature, Place p, Vec* y, bool repeat) const {
    const T* data = static_cast<const T*>(from) + p.row * row + p.pixel;
    const int64_t lane = job.pixels == 1 ? row : 1;
    T* out = reinterpret_cast<T*>(y);
    for (int64_t i = 0; i < job.features; ++i) {
      for (int64_t k = 0; k < p.count; ++k) out[i * lanes + k] = data[i * feature + k * lane];
      for (int64_t k = p.count; k < lanes; ++k) out[i * lanes + k] = repeat ? out[i * lanes + p.count - 1] : T(0);
    }
  }

  void store(void* to, int64_t row, int64_t feature, Place p, const Vec* y) const {
    T* data = static_cast<T*>(to) + p.row * row + p.pixel;
    const int64_t lane = job.pixels == 1 ? row : 1;
    const T* in = reinterpret_cast<const T*>(y);
    for (int64_t i = 0; i < job.features; ++i)
      for (int64_t k = 0; k < p.count; ++k) data[i * feature + k * lane] = in[i * lanes + k];
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

  // Rows that one layer leaves behind for its backward step: sources, σ, and σ' for softplus.
  int64_t layer_rows() const {
    return source_rows() + hidden_rows() * (job.activation == Activation::softplus ? 2 : 1);
  }

  int64_t segment() const {
    const int64_t fits = kSegmentBytes / (layer_rows() * lanes * int64_t{sizeof(T)});
    // Checkpoints and segments share the memory best near the square root of the depth.
    int64_t root = 1;
    while (root * root < job.layers) ++root;
    const int64_t length = fits > root ? fits : root;
    return length < job.layers ? length : (job.layers > 0 ? job.layers : 1);
  }

  int64_t segments() const { return (job.layers + segment() - 1) / segment(); }

  int64_t scratch_bytes(bool backward) const {
    const int64_t row = lanes * int64_t{sizeof(T)};
    int64_t rows = job.features + hidden_rows();
    if (backward) rows += 2 * job.features + hidden_rows() + segments() * job.features + segment() * layer_rows();
    return rows * row;
  }

  template <Activation A> void forward(int64_t first, int64_t last, void* memory) const {
    Vec* y = static_cast<Vec*>(memory);
    Vec* s = y + job.features * vectors;
    for (int64_t block = first; block < last; ++block) {
      const Place p = place(block, job.rows);
      load(job.y, job.row_stride, job.feature_stride, p, y, true);
      for (int64_t layer = 0; layer < job.layers; ++layer) advance<A>(layer, y, s);
      store(job.out, job.out_row_stride, job.out_feature_stride, p, y);
    }
  }

  template <Activation A> void advance(int64_t layer, Vec* y, Vec* s) const {
    for (int k = 0; k < job.moves; ++k) {
      const Move& move = job.move[k];
      activate_rows<A>(move, layer, y + move.source * vectors, s, nullptr);
      drive(move, layer, s, y);
    }
  }

  // One layer, leaving behind what its backward step needs.
  template <Activation A> void record(int64_t layer, Vec* y, Vec* left) const {
    for (int k = 0; k < job.moves; ++k) {
      const Move& move = job.move[k];
      const Vec* source = y + move.source * vectors;
      for (int64_t c = 0; c < move.source_count * vectors; ++c) left[c] = source[c];
      Vec* s = left + move.source_count * vectors;
      Vec* d = s + move.hidden * vectors;
      activate_rows<A>(move, layer, source, s, d);
      drive(move, layer, s, y);
      left = A == Activation::softplus ? d + move.hidden * vectors : d;
    }
  }

  template <Activation A> void backward(int64_t first, int64_t last, void* memory) const {
    const int64_t state = job.features * vectors;
    Vec* y = static_cast<Vec*>(memory);
    Vec* s = y + state;
    Vec* lambda = s + hidden_rows() * vectors;
    Vec* gu = lambda + state;
    Vec* flat = gu + hidden_rows() * vectors;
    Vec* rest = flat + state;
    for (int64_t block = first; block < last; ++block) {
      const Place p = place(block, job.rows);
      load(job.g, job.g_row_stride, job.g_feature_stride, p, lambda, false);
      load(job.y, job.row_stride, job.feature_stride, p, y, true);
      walk_back<A>(y, s, lambda, gu, flat, rest);
      store(job.out, job.out_row_stride, job.out_feature_stride, p, lambda);
    }
  }

  // Walk back through a block of which only the first state is known, segment by segment from checkpoints.
  template <Activation A> void walk_back(Vec* y, Vec* s, Vec* lambda, Vec* gu, Vec* flat, Vec* checkpoint) const {
    const int64_t length = segment(), count = segments(), state = job.features * vectors;
    const int64_t per_layer = layer_rows() * vectors;
    Vec* left = checkpoint + count * state;
    for (int64_t layer = 0; layer < (count - 1) * length; ++layer) {
      if (layer % length == 0) copy(y, checkpoint + layer / length * state, state);
      advance<A>(layer, y, s);
    }
    if (count > 0) copy(y, checkpoint + (count - 1) * state, state);
    for (int64_t part = count - 1; part >= 0; --part) {
      const int64_t start = part * length, stop = start + length < job.layers ? start + length : job.layers;
      copy(checkpoint + part * state, y, state);
      for (int64_t layer = start; layer < stop; ++layer) record<A>(layer, y, left + (layer - start) * per_layer);
      for (int64_t layer = stop - 1; layer >= start; --layer)
        step_back<A>(layer, left + (layer - start) * per_layer, lambda, gu, flat);
    }
  }

  template <Activation A> void step_back(int64_t layer, const Vec* left, Vec* lambda, Vec* gu, Vec* flat) const {
    const Vec* of_move[2] = {left, left};
    if (job.moves == 2) of_move[1] = left + rows_of(job.move[0], A) * vectors;
    for (int k = job.moves - 1; k >= 0; --k) {
      const Move& move = job.move[k];
      const Vec* source = of_move[k];
      const Vec* s = source + move.source_count * vectors;
      const Vec* d = s + move.hidden * vectors;
      pull<A>(move, layer, lambda, s, d, gu);
      add_drive_gradient(move, layer, s, lambda, flat);
      push(move, layer, gu, lambda);
      add_outer(move.hidden, gu, move.source_count, source, T(move.K.sign), gradient_at(move.K, layer), move.K.row,
                move.K.column, flat);
      add_rows(move.hidden, gu, gradient_at(move.b, layer), move.b.row);
    }
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

int64_t lanes(bool doubles, int64_t features) { return doubles ? lanes_for<double>(features) : lanes_for<float>(features); }

int64_t scratch(bool doubles, const Job& job, bool backward) {
  return doubles ? Run<double>(job).scratch_bytes(backward) : Run<float>(job).scratch_bytes(backward);
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
const Kernel HDNN_KERNEL = {HDNN_KERNEL_NAME, lanes, scratch, run<false>, run<true>};
}  // namespace hdnn
