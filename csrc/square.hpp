// A move of N sources, N hidden values and N destinations, N known to the compiler: loops unroll, rows stay in
// registers. The weights of the layer are packed first, signs and step included.
//
// Included inside an anonymous namespace, as math.hpp is.

template <class T, int N> struct Square {
  using Vec = V<T>;
  static constexpr int rows = N;
  static constexpr int C = 2;               // vectors at a time
  static constexpr int R = N <= 4 ? N : 4;  // rows at a time

  T K[N][N], b[N];  // u_r = Σ_i K[r][i] y_i + b_r
  T D[N][N];        // y_i += Σ_r D[r][i] s_r; not set where the drive is the identity
  int64_t target;   // first destination row
  bool identity;
  T h, slope;

  Square(const Move& move, int64_t layer, T negative_slope)
      : target(move.range[0].start), identity(move.identity), h(T(move.step)), slope(negative_slope) {
    const T* from = static_cast<const T*>(move.K.data) + layer * move.K.layer;
    const T* bias = static_cast<const T*>(move.b.data) + layer * move.b.layer;
    const T sign = T(move.K.sign);
    for (int r = 0; r < N; ++r) {
      b[r] = bias[r * move.b.row];
      for (int i = 0; i < N; ++i) K[r][i] = sign * from[r * move.K.row + i * move.K.column];
    }
    if (identity) return;
    const Matrix& matrix = move.own ? move.K : move.W;
    const T* A = static_cast<const T*>(matrix.data) + layer * matrix.layer;
    for (int g = 0; g < move.ranges; ++g) {
      const auto& range = move.range[g];
      const T factor = h * T(range.sign) * T(matrix.sign);
      for (int r = 0; r < N; ++r)
        for (int64_t i = 0; i < range.count; ++i)
          D[r][range.start - target + i] = factor * A[r * matrix.row + (range.column + i) * matrix.column];
    }
  }

  // out[r][c] = Σ_i a[r][i] in[i][c], for R rows from `first` on
  template <bool Transposed>
  static HDNN_INLINE void product(const T (&a)[N][N], int first, const Vec (&in)[N][C], Vec (&out)[R][C]) {
    HDNN_UNROLL for (int i = 0; i < N; ++i)
      HDNN_UNROLL for (int r = 0; r < R; ++r) {
        const T factor = Transposed ? a[i][first + r] : a[first + r][i];
        HDNN_UNROLL for (int c = 0; c < C; ++c) out[r][c] = i == 0 ? factor * in[i][c] : out[r][c] + factor * in[i][c];
      }
  }

  static HDNN_INLINE void load(const Vec* rows, int64_t vectors, Vec (&in)[N][C]) {
    HDNN_UNROLL for (int i = 0; i < N; ++i)
      HDNN_UNROLL for (int c = 0; c < C; ++c) in[i][c] = rows[i * vectors + c];
  }

  // s = σ(K y + b), y_dst += D s; d = σ' for softplus; `left` gets a copy of the source where it is wanted
  template <Activation A>
  HDNN_INLINE void advance(int64_t vectors, const Vec* source, Vec* y, Vec* s, Vec* d, Vec* left) const {
    for (int64_t k = 0; k < vectors; k += C) {
      Vec in[N][C], out[R][C];
      load(source + k, vectors, in);
      if (left != nullptr)
        HDNN_UNROLL for (int i = 0; i < N; ++i)
          HDNN_UNROLL for (int c = 0; c < C; ++c) left[i * vectors + k + c] = in[i][c];
      for (int first = 0; first < N; first += R) {
        product<false>(K, first, in, out);
        for (int r = 0; r < R; r += 2) {
          Vec u[2 * C], derivative[2 * C];
          HDNN_UNROLL for (int j = 0; j < 2 * C; ++j) u[j] = out[r + j / C][j % C] + b[first + r + j / C];
          activate<T, A, 2 * C>(u, slope, derivative);
          HDNN_UNROLL for (int j = 0; j < 2 * C; ++j) {
            const int64_t place = (first + r + j / C) * vectors + k + j % C;
            s[place] = u[j];
            if (A == Activation::softplus && d != nullptr) d[place] = derivative[j];
          }
        }
      }
      load(s + k, vectors, in);
      Vec* to = y + target * vectors + k;
      for (int first = 0; first < N; first += R) {
        if (!identity) product<true>(D, first, in, out);
        HDNN_UNROLL for (int r = 0; r < R; ++r)
          HDNN_UNROLL for (int c = 0; c < C; ++c)
            to[(first + r) * vectors + c] += identity ? h * in[first + r][c] : out[r][c];
      }
    }
  }

  // g_u = Dᵀ λ_dst · σ', λ_src += Kᵀ g_u; for forward Euler λ_src is λ_dst, read before it is written
  template <Activation A>
  HDNN_INLINE void retreat(int64_t vectors, const Vec* lambda, Vec* to_source, const Vec* s, const Vec* d,
                           Vec* gu) const {
    for (int64_t k = 0; k < vectors; k += C) {
      Vec in[N][C], out[R][C];
      load(lambda + target * vectors + k, vectors, in);
      for (int first = 0; first < N; first += R) {
        if (!identity) product<false>(D, first, in, out);
        HDNN_UNROLL for (int r = 0; r < R; ++r)
          HDNN_UNROLL for (int c = 0; c < C; ++c) {
            const int64_t place = (first + r) * vectors + k + c;
            const Vec sum = identity ? h * in[first + r][c] : out[r][c];
            gu[place] = sum * (A == Activation::softplus ? d[place] : slope_of<T, A>(s[place], slope));
          }
      }
      load(gu + k, vectors, in);
      Vec* to = to_source + k;
      for (int first = 0; first < N; first += R) {
        product<true>(K, first, in, out);
        HDNN_UNROLL for (int r = 0; r < R; ++r)
          HDNN_UNROLL for (int c = 0; c < C; ++c) to[(first + r) * vectors + c] += out[r][c];
      }
    }
  }

  // As `retreat`, and the gradients of K and b on the way: g_u y_srcᵀ, and s times ± h λ where K also drives.
  template <Activation A, bool Own>
  HDNN_INLINE void retreat_and_add(int64_t vectors, const Move& move, int64_t layer, const Vec* lambda, Vec* to_source,
                                   const Vec* source, const Vec* s, const Vec* d) const {
    const Vec* turned[N];  // the destination that a column of K drives
    T factor[N];
    for (int g = 0; Own && g < move.ranges; ++g) {
      const auto& range = move.range[g];
      for (int64_t i = 0; i < range.count; ++i) {
        turned[range.column + i] = lambda + (range.start + i) * vectors;
        factor[range.column + i] = h * T(range.sign);
      }
    }
    Vec sums[N * N] = {}, bias[N] = {};
    for (int64_t k = 0; k < vectors; ++k) {
      Vec gu[N], out[N];
      HDNN_UNROLL for (int i = 0; i < N; ++i) {
        const Vec in = lambda[(target + i) * vectors + k];
        HDNN_UNROLL for (int r = 0; r < N; ++r) {
          if (identity)
            gu[r] = i == r ? h * in : gu[r];
          else
            gu[r] = i == 0 ? D[r][i] * in : gu[r] + D[r][i] * in;
        }
      }
      HDNN_UNROLL for (int r = 0; r < N; ++r) {
        const int64_t place = r * vectors + k;
        gu[r] *= A == Activation::softplus ? d[place] : slope_of<T, A>(s[place], slope);
        bias[r] += gu[r];
      }
      HDNN_UNROLL for (int i = 0; i < N; ++i) {
        const Vec in = source[i * vectors + k];
        HDNN_UNROLL for (int r = 0; r < N; ++r) sums[r * N + i] += gu[r] * in;
        if constexpr (Own) {
          const Vec pulled = factor[i] * turned[i][k];
          HDNN_UNROLL for (int r = 0; r < N; ++r) sums[r * N + i] += s[r * vectors + k] * pulled;
        }
      }
      HDNN_UNROLL for (int i = 0; i < N; ++i) {
        out[i] = K[0][i] * gu[0];
        HDNN_UNROLL for (int r = 1; r < N; ++r) out[i] += K[r][i] * gu[r];
      }
      HDNN_UNROLL for (int i = 0; i < N; ++i) to_source[i * vectors + k] += out[i];
    }
    T* K_gradient = static_cast<T*>(move.K.gradient) + layer * move.K.layer;
    T* b_gradient = static_cast<T*>(move.b.gradient) + layer * move.b.layer;
    add(sums, T(move.K.sign), K_gradient, move.K.row, move.K.column);
    add(bias, T(1), b_gradient, 0, move.b.row);
  }

  // out[r, i] += factor Σ_lanes v[r N + i]
  template <int Count>
  static HDNN_INLINE void add(const Vec (&v)[Count], T factor, T* out, int64_t row, int64_t column) {
    constexpr int together = Count < Simd<T>::W ? Count : Simd<T>::W;
    T each[Count];
    HDNN_UNROLL for (int first = 0; first < Count; first += together) {
      Vec part[together];
      HDNN_UNROLL for (int j = 0; j < together; ++j) part[j] = v[first + j];
      const Vec total = factor * Products<T>::template sums<together>(part);
      __builtin_memcpy(each + first, &total, together * sizeof(T));
    }
    if (column == 1 && (Count == N || row == N)) {
      for (int j = 0; j < Count; ++j) out[j] += each[j];
      return;
    }
    for (int j = 0; j < Count; ++j) out[j / N * row + j % N * column] += each[j];
  }
};
