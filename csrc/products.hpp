// Products of small matrices with the state of a block, and the gradients of their weights.
//
// Included inside an anonymous namespace, as math.hpp is. A row is `vectors` vectors of W lanes each.

constexpr int kRows = 4;                                   // rows of a tile
constexpr int kColumns = HDNN_VECTOR_BYTES >= 64 ? 4 : 2;  // vectors of a tile: what the registers hold

template <class T> struct Products {
  using Vec = V<T>;
  static constexpr int W = Simd<T>::W;

  const int64_t lanes, vectors;  // of a block

  explicit Products(int64_t block) : lanes(block), vectors(block / W) {}

  static constexpr int G = 16 / int{sizeof(T)};  // numbers of a 128-bit part, within which shuffles are cheapest
  typedef T Part __attribute__((vector_size(16)));

  // G x G numbers, transposed.
  static HDNN_INLINE void transpose_part(const T* in, int64_t in_row, T* out, int64_t out_row) {
    Part r[G], turned[G];
    for (int k = 0; k < G; ++k) __builtin_memcpy(&r[k], in + k * in_row, sizeof(Part));
    if constexpr (G == 4) {
      const Part a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
      const Part c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
      turned[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5), turned[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
      turned[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5), turned[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
    } else {
      turned[0] = __builtin_shufflevector(r[0], r[1], 0, 2), turned[1] = __builtin_shufflevector(r[0], r[1], 1, 3);
    }
    for (int k = 0; k < G; ++k) __builtin_memcpy(out + k * out_row, &turned[k], sizeof(Part));
  }

  // out[c, r] = in[r, c], both with neighbouring numbers in a row
  static void transpose(int64_t rows, int64_t columns, const T* in, int64_t in_row, T* out, int64_t out_row) {
    const int64_t whole_rows = rows - rows % G, whole_columns = columns - columns % G;
    for (int64_t r = 0; r < whole_rows; r += G)
      for (int64_t c = 0; c < whole_columns; c += G)
        transpose_part(in + r * in_row + c, in_row, out + c * out_row + r, out_row);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) out[c * out_row + r] = in[r * in_row + c];
  }

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

  // Where entry E of a folded vector comes from: neighbours within the parts first, then neighbouring parts.
  static constexpr int from(int E, bool within, int odd) {
    const int part = E / G, place = E % G, parts = W / G;
    if (within) return part * G + 2 * (place % (G / 2)) + odd + (place < G / 2 ? 0 : W);
    return (2 * (part % (parts / 2)) + odd) * G + place + (part < parts / 2 ? 0 : W);
  }
  template <bool Within, int... E> static HDNN_INLINE Vec fold(Vec a, Vec b, std::integer_sequence<int, E...>) {
    return __builtin_shufflevector(a, b, from(E, Within, 0)...) + __builtin_shufflevector(a, b, from(E, Within, 1)...);
  }
  static HDNN_INLINE Vec fold(int width, Vec a, Vec b) {
    constexpr auto all = std::make_integer_sequence<int, W>{};
    if constexpr (W > G) {
      if (width >= G) return fold<false>(a, b, all);
    }
    return fold<true>(a, b, all);
  }

  // The sums over the lanes of R vectors, R a power of 2, in the first R lanes of one vector.
  template <int R> static HDNN_INLINE Vec sums(Vec (&v)[R]) {
    HDNN_UNROLL for (int width = 1; width < W; width *= 2) {
      const int pairs = R / (2 * width);
      HDNN_UNROLL for (int j = 0; j < pairs; ++j) v[j] = fold(width, v[2 * j], v[2 * j + 1]);
      if (pairs == 0) v[0] = fold(width, v[0], v[0]);
    }
    return v[0];
  }

  // out[r, i] += factor Σ_lanes a[r] b[i], and + c[r] d[i] where there is a second pair
  template <bool Pair>
  void outer(int64_t rows, const Vec* a, int64_t columns, const Vec* b, const Vec* c2, const Vec* d2, T factor, T* out,
             int64_t row, int64_t column) const {
    constexpr int TC = W >= 16 ? 4 : (W >= 4 ? 2 : 1), TR = W / TC;
    for (int64_t r = 0; r < rows; r += TR)
      for (int64_t i = 0; i < columns; i += TC) {
        int64_t left[TR], right[TC];
        for (int j = 0; j < TR; ++j) left[j] = (r + j < rows ? r + j : rows - 1) * vectors;
        for (int k = 0; k < TC; ++k) right[k] = (i + k < columns ? i + k : columns - 1) * vectors;
        Vec acc[W] = {};
        for (int64_t c = 0; c < vectors; ++c)
          HDNN_UNROLL for (int j = 0; j < TR; ++j)
            HDNN_UNROLL for (int k = 0; k < TC; ++k) {
              acc[j * TC + k] += a[left[j] + c] * b[right[k] + c];
              if (Pair) acc[j * TC + k] += c2[left[j] + c] * d2[right[k] + c];
            }
        const Vec total = factor * sums<W>(acc);
        if (column == 1 && r + TR <= rows && i + TC <= columns) {
          typedef T Row __attribute__((vector_size(TC * sizeof(T))));
          Row part[TR];
          __builtin_memcpy(part, &total, sizeof total);
          for (int j = 0; j < TR; ++j) {
            Row before;
            T* to = out + (r + j) * row + i;
            __builtin_memcpy(&before, to, sizeof before);
            before += part[j];
            __builtin_memcpy(to, &before, sizeof before);
          }
          continue;
        }
        for (int j = 0; j < TR && r + j < rows; ++j)
          for (int k = 0; k < TC && i + k < columns; ++k) out[(r + j) * row + (i + k) * column] += total[j * TC + k];
      }
  }

  // Whether the columns of an outer product are better taken along the vectors: no sums over lanes are needed then,
  // at the price of a transposed copy.
  static bool is_wide(int64_t columns, int64_t column) { return column == 1 && columns % W == 0 && columns >= 2 * W; }


  template <int R, int C>
  HDNN_INLINE void outer_tile(const T* a, const T* flat, int64_t columns, T factor, T* out, int64_t row) const {
    Vec sum[R][C] = {};
    for (int64_t lane = 0; lane < lanes; ++lane) {
      Vec in[C];
      for (int c = 0; c < C; ++c) in[c] = reinterpret_cast<const Vec*>(flat + lane * columns)[c];
      for (int r = 0; r < R; ++r) {
        const T left = a[r * lanes + lane];
        for (int c = 0; c < C; ++c) sum[r][c] += left * in[c];
      }
    }
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) {
        Vec before;
        __builtin_memcpy(&before, out + r * row + c * W, sizeof before);
        before += factor * sum[r][c];
        __builtin_memcpy(out + r * row + c * W, &before, sizeof before);
      }
  }

  template <int C>
  void outer_columns(int64_t rows, const T* a, const T* flat, int64_t columns, T factor, T* out, int64_t row) const {
    tiles(rows, [&](int64_t r, auto size) {
      outer_tile<decltype(size)::value, C>(a + r * lanes, flat, columns, factor, out + r * row, row);
    });
  }

  // As `outer`, with b transposed.
  void outer_wide(int64_t rows, const Vec* a, int64_t columns, const T* flat, T factor, T* out, int64_t row) const {
    const T* left = reinterpret_cast<const T*>(a);
    int64_t i = 0;
    for (; i + kColumns * W <= columns; i += kColumns * W)
      outer_columns<kColumns>(rows, left, flat + i, columns, factor, out + i, row);
    for (; i + 2 * W <= columns; i += 2 * W) outer_columns<2>(rows, left, flat + i, columns, factor, out + i, row);
    for (; i < columns; i += W) outer_columns<1>(rows, left, flat + i, columns, factor, out + i, row);
  }

  // out[r, i] += factor Σ_lanes a[r] b[i], the faster way; `flat` has room for b.
  void add_outer(int64_t rows, const Vec* a, int64_t columns, const Vec* b, T factor, T* out, int64_t row,
                 int64_t column, Vec* flat) const {
    if (!is_wide(columns, column)) return outer<false>(rows, a, columns, b, nullptr, nullptr, factor, out, row, column);
    T* turned = reinterpret_cast<T*>(flat);
    transpose(columns, lanes, reinterpret_cast<const T*>(b), lanes, turned, columns);
    outer_wide(rows, a, columns, turned, factor, out, row);
  }

  // out[r] += Σ_lanes a[r]
  void add_rows(int64_t rows, const Vec* a, T* out, int64_t row) const {
    constexpr int R = W < 4 ? W : 4;
    for (int64_t r = 0; r < rows; r += R) {
      Vec acc[R] = {};
      for (int j = 0; j < R && r + j < rows; ++j)
        for (int64_t c = 0; c < vectors; ++c) acc[j] += a[(r + j) * vectors + c];
      const Vec total = sums<R>(acc);
      for (int j = 0; j < R && r + j < rows; ++j) out[(r + j) * row] += total[j];
    }
  }
};
