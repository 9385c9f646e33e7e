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

using hdnn::Activation;
using hdnn::Job;
using hdnn::Matrix;
using hdnn::Move;

constexpr int kRows = 4;                                   // rows of a tile
constexpr int kColumns = HDNN_VECTOR_BYTES >= 64 ? 4 : 2;  // vectors of a tile: what the registers hold
constexpr int64_t kSegmentBytes = 128 << 10;               // trajectory of a segment

template <class T> int64_t lanes_for(int64_t features) {
  const int64_t tile = int64_t{kColumns} * Simd<T>::W;
  const int64_t wanted = (features <= 32 ? 512 : 256) / int64_t{sizeof(T)};
  return wanted < tile ? tile : wanted / tile * tile;
}

template <class T> struct Run {
  using Vec = V<T>;
  static constexpr int W = Simd<T>::W;

  const Job& job;
  const int64_t lanes, vectors;  // of a block
  T h, negative_slope;

  explicit Run(const Job& j)
      : job(j), lanes(lanes_for<T>(j.features)), vectors(lanes / W), h(T(j.step)), negative_slope(T(j.negative_slope)) {}

  // acc[r][c] += Σ_i a[r, i] x[i][c]
  template <int R>
  static HDNN_INLINE void multiply(int64_t count, const T* a, int64_t row, int64_t column, const Vec* x, int64_t ld,
                                   Vec (&acc)[R][kColumns]) {
    Vec sum[R][kColumns];  // a local array stays in registers; the caller's might alias x
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < kColumns; ++c) sum[r][c] = acc[r][c];
    for (int64_t i = 0; i < count; ++i) {
      Vec in[kColumns];
      for (int c = 0; c < kColumns; ++c) in[c] = x[i * ld + c];
      for (int r = 0; r < R; ++r) {
        const T factor = a[r * row + i * column];
        for (int c = 0; c < kColumns; ++c) sum[r][c] += factor * in[c];
      }
    }
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < kColumns; ++c) acc[r][c] = sum[r][c];
  }

  template <class F> static HDNN_INLINE void tiles(int64_t rows, F&& run) {
    int64_t r = 0;
    for (; r + kRows <= rows; r += kRows) run(r, std::integral_constant<int, kRows>{});
    switch (rows - r) {
      case 3: run(r, std::integral_constant<int, 3>{}); break;
      case 2: run(r, std::integral_constant<int, 2>{}); break;
      case 1: run(r, std::integral_constant<int, 1>{}); break;
      default: break;
    }
  }

  static const T* at(const Matrix& m, int64_t layer) { return static_cast<const T*>(m.data) + layer * m.layer; }
  static T* gradient_at(const Matrix& m, int64_t layer) { return static_cast<T*>(m.gradient) + layer * m.layer; }

  // s = σ(K y_src + b); d = σ' for softplus
  template <Activation A> void activate_rows(const Move& move, int64_t layer, const Vec* source, Vec* s, Vec* d) const {
    const T* K = at(move.K, layer);
    const T* b = at(move.b, layer);
    const T sign = T(move.K.sign);
    tiles(move.hidden, [&](int64_t r, auto size) {
      constexpr int R = decltype(size)::value;
      for (int64_t c = 0; c < vectors; c += kColumns) {
        Vec acc[R][kColumns] = {};
        multiply<R>(move.source_count, K + r * move.K.row, move.K.row, move.K.column, source + c, vectors, acc);
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
      tiles(range.count, [&](int64_t i, auto size) {
        constexpr int R = decltype(size)::value;
        for (int64_t c = 0; c < vectors; c += kColumns) {
          Vec acc[R][kColumns] = {};
          multiply<R>(move.hidden, A + i * matrix.column, matrix.column, matrix.row, s + c, vectors, acc);
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
    tiles(move.hidden, [&](int64_t r, auto size) {
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
          multiply<R>(range.count, A0, matrix.row, matrix.column, target + c, vectors, acc);
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
    tiles(move.source_count, [&](int64_t i, auto size) {
      constexpr int R = decltype(size)::value;
      for (int64_t c = 0; c < vectors; c += kColumns) {
        Vec acc[R][kColumns] = {};
        multiply<R>(move.hidden, K + i * move.K.column, move.K.column, move.K.row, gu + c, vectors, acc);
        for (int j = 0; j < R; ++j)
          for (int k = 0; k < kColumns; ++k) target[(i + j) * vectors + c + k] += sign * acc[j][k];
      }
    });
  }

  template <int... E> static HDNN_INLINE Vec fold(Vec a, Vec b, std::integer_sequence<int, E...>) {
    return __builtin_shufflevector(a, b, (2 * E)...) + __builtin_shufflevector(a, b, (2 * E + 1)...);
  }

  // The sums over the lanes of W vectors, as one vector.
  static HDNN_INLINE Vec sums(Vec (&v)[W]) {
    for (int count = W; count > 1; count /= 2)
      for (int j = 0; j < count / 2; ++j)
        v[j] = fold(v[2 * j], v[2 * j + 1], std::make_integer_sequence<int, W>{});
    return v[0];
  }

  // out[r, i] += factor Σ_lanes a[r] b[i]
  void outer(int64_t rows, const Vec* a, int64_t columns, const Vec* b, T factor, T* out, int64_t row,
             int64_t column) const {
    constexpr int TC = W >= 16 ? 4 : (W >= 4 ? 2 : 1), TR = W / TC;
    for (int64_t r = 0; r < rows; r += TR)
      for (int64_t i = 0; i < columns; i += TC) {
        const Vec *left[TR], *right[TC];
        for (int j = 0; j < TR; ++j) left[j] = a + (r + j < rows ? r + j : rows - 1) * vectors;
        for (int k = 0; k < TC; ++k) right[k] = b + (i + k < columns ? i + k : columns - 1) * vectors;
        Vec acc[W] = {};
        for (int64_t c = 0; c < vectors; ++c)
          for (int j = 0; j < TR; ++j)
            for (int k = 0; k < TC; ++k) acc[j * TC + k] += left[j][c] * right[k][c];
        const Vec total = factor * sums(acc);
        for (int j = 0; j < TR && r + j < rows; ++j)
          for (int k = 0; k < TC && i + k < columns; ++k) out[(r + j) * row + (i + k) * column] += total[j * TC + k];
      }
  }

  // out[r] += Σ_lanes a[r]
  void add_rows(int64_t rows, const Vec* a, T* out, int64_t row) const {
    for (int64_t r = 0; r < rows; r += W) {
      Vec acc[W] = {};
      for (int j = 0; j < W && r + j < rows; ++j)
        for (int64_t c = 0; c < vectors; ++c) acc[j] += a[(r + j) * vectors + c];
      const Vec total = sums(acc);
      for (int j = 0; j < W && r + j < rows; ++j) out[(r + j) * row] += total[j];
    }
  }

  void add_drive_gradient(const Move& move, int64_t layer, const Vec* s, const Vec* lambda) const {
    if (move.identity) return;
    const Matrix& matrix = move.own ? move.K : move.W;
    for (int g = 0; g < move.ranges; ++g) {
      const auto& range = move.range[g];
      T* out = gradient_at(matrix, layer) + range.column * matrix.column;
      outer(move.hidden, s, range.count, lambda + range.start * vectors, h * T(range.sign) * T(matrix.sign), out,
            matrix.row, matrix.column);
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

  void load(const void* from, int64_t row, int64_t feature, Place p, Vec* y) const {
    const T* data = static_cast<const T*>(from) + p.row * row + p.pixel;
    const int64_t lane = job.pixels == 1 ? row : 1;
    T* out = reinterpret_cast<T*>(y);
    for (int64_t i = 0; i < job.features; ++i) {
      for (int64_t k = 0; k < p.count; ++k) out[i * lanes + k] = data[i * feature + k * lane];
      for (int64_t k = p.count; k < lanes; ++k) out[i * lanes + k] = 0;
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
    if (backward) rows += job.features + hidden_rows() + segments() * job.features + segment() * layer_rows();
    return rows * row;
  }

  template <Activation A> void forward(int64_t first, int64_t last, void* memory) const {
    Vec* y = static_cast<Vec*>(memory);
    Vec* s = y + job.features * vectors;
    for (int64_t block = first; block < last; ++block) {
      const Place p = place(block, job.rows);
      load(job.y, job.row_stride, job.feature_stride, p, y);
      for (int64_t layer = 0; layer < job.layers; ++layer)
        for (int k = 0; k < job.moves; ++k) {
          const Move& move = job.move[k];
          activate_rows<A>(move, layer, y + move.source * vectors, s, nullptr);
          drive(move, layer, s, y);
        }
      store(job.out, job.out_row_stride, job.out_feature_stride, p, y);
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
    const int64_t length = segment(), count = segments(), state = job.features * vectors, kept = layer_rows() * vectors;
    Vec* y = static_cast<Vec*>(memory);
    Vec* s = y + state;
    Vec* lambda = s + hidden_rows() * vectors;
    Vec* gu = lambda + state;
    Vec* checkpoint = gu + hidden_rows() * vectors;
    Vec* left = checkpoint + count * state;
    for (int64_t block = first; block < last; ++block) {
      const Place p = place(block, job.rows);
      load(job.y, job.row_stride, job.feature_stride, p, y);
      load(job.g, job.g_row_stride, job.g_feature_stride, p, lambda);
      for (int64_t layer = 0; layer < (count - 1) * length; ++layer) {
        if (layer % length == 0) copy(y, checkpoint + layer / length * state, state);
        for (int k = 0; k < job.moves; ++k) {
          const Move& move = job.move[k];
          activate_rows<A>(move, layer, y + move.source * vectors, s, nullptr);
          drive(move, layer, s, y);
        }
      }
      if (count > 0) copy(y, checkpoint + (count - 1) * state, state);
      for (int64_t part = count - 1; part >= 0; --part) {
        const int64_t start = part * length, stop = start + length < job.layers ? start + length : job.layers;
        copy(checkpoint + part * state, y, state);
        for (int64_t layer = start; layer < stop; ++layer) record<A>(layer, y, left + (layer - start) * kept);
        for (int64_t layer = stop - 1; layer >= start; --layer)
          step_back<A>(layer, left + (layer - start) * kept, lambda, gu);
      }
      store(job.out, job.out_row_stride, job.out_feature_stride, p, lambda);
    }
  }

  template <Activation A> void step_back(int64_t layer, const Vec* left, Vec* lambda, Vec* gu) const {
    const Vec* of_move[2] = {left, left};
    if (job.moves == 2) of_move[1] = left + rows_of(job.move[0], A) * vectors;
    for (int k = job.moves - 1; k >= 0; --k) {
      const Move& move = job.move[k];
      const Vec* source = of_move[k];
      const Vec* s = source + move.source_count * vectors;
      const Vec* d = s + move.hidden * vectors;
      pull<A>(move, layer, lambda, s, d, gu);
      add_drive_gradient(move, layer, s, lambda);
      push(move, layer, gu, lambda);
      outer(move.hidden, gu, move.source_count, source, T(move.K.sign), gradient_at(move.K, layer), move.K.row,
            move.K.column);
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
