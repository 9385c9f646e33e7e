// One move forward and back on a block of samples, for any sizes; small square ones go to `Square`.
//
// Included inside an anonymous namespace, as math.hpp is. λ is the gradient of the state.

#ifndef HDNN_SQUARE_BYTES
#define HDNN_SQUARE_BYTES 8  // the largest numbers for which small sizes have code of their own
#endif

// Lanes of a block: fewer where all samples are few. No bit depends on idle lanes: they add zeros.
template <class T> int64_t lanes_for(int64_t features, int64_t samples) {
  const int64_t tile = int64_t{kColumns} * Simd<T>::W;
  const int64_t wanted = (features <= 32 ? 512 : 256) / int64_t{sizeof(T)};
  const int64_t most = wanted < samples ? wanted : samples;
  return most <= tile ? tile : (most + tile - 1) / tile * tile;
}

template <class T> struct Moves : Products<T> {
  using Base = Products<T>;
  using typename Base::Vec;
  using Base::add_outer, Base::add_rows, Base::lanes, Base::vectors;

  const Job& job;
  T negative_slope;

  explicit Moves(const Job& j) : Moves(j, lanes_for<T>(j.features, j.rows * j.pixels)) {}
  Moves(const Job& j, int64_t block) : Base(block), job(j), negative_slope(T(j.negative_slope)) {}

  static const T* at(const Matrix& m, int64_t layer) { return static_cast<const T*>(m.data) + layer * m.layer; }
  static T* gradient_at(const Matrix& m, int64_t layer) { return static_cast<T*>(m.gradient) + layer * m.layer; }

  // s = σ(K y_src + b); d = σ' for softplus. Where inputs drive the layer, `driven` is b of every sample.
  template <Activation A>
  void activate_rows(const Move& move, int64_t layer, const Vec* source, Vec* s, Vec* d, const Vec* driven) const {
    const T* K = at(move.K, layer);
    const T* b = driven == nullptr ? at(move.b, layer) : nullptr;
    if (driven != nullptr) driven += move.unit * vectors;
    const T sign = T(move.K.sign);
    Base::tiles(move.hidden, [&](int64_t r, auto size) {
      constexpr int R = decltype(size)::value;
      for (int64_t c = 0; c < vectors; c += kColumns) {
        Vec acc[R][kColumns] = {};
        Base::template multiply<R>(move.source_count, K + r * move.K.row, move.K.row, move.K.column, source + c,
                                   vectors, acc);
        for (int j = 0; j < R; ++j) {
          Vec u[kColumns], derivative[kColumns];
          if (driven == nullptr) {
            const T bias = b[(r + j) * move.b.row];
            for (int k = 0; k < kColumns; ++k) u[k] = acc[j][k] * sign + bias;
          } else {
            for (int k = 0; k < kColumns; ++k) u[k] = acc[j][k] * sign + driven[(r + j) * vectors + c + k];
          }
          activate<T, A, kColumns>(u, negative_slope, derivative);
          for (int k = 0; k < kColumns; ++k) {
            const int64_t place = (r + j) * vectors + c + k;
            s[place] = u[k];
            if (A == Activation::softplus && d != nullptr) d[place] = derivative[k];
          }
        }
      }
    });
  }

  // y_dst += h D s
  void drive(const Move& move, int64_t layer, const Vec* s, Vec* y) const {
    const T h = T(move.step);
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
          Base::template multiply<R>(move.hidden, A + i * matrix.column, matrix.column, matrix.row, s + c, vectors,
                                     acc);
          for (int j = 0; j < R; ++j)
            for (int k = 0; k < kColumns; ++k) target[(i + j) * vectors + c + k] += factor * acc[j][k];
        }
      });
    }
  }

  // g_u = h Dᵀ λ_dst · σ'
  template <Activation A>
  void pull(const Move& move, int64_t layer, const Vec* lambda, const Vec* s, const Vec* d, Vec* gu) const {
    const T h = T(move.step);
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
  void push(const Move& move, int64_t layer, const Vec* gu, Vec* target) const {
    const T* K = at(move.K, layer);
    const T sign = T(move.K.sign);
    Base::tiles(move.source_count, [&](int64_t i, auto size) {
      constexpr int R = decltype(size)::value;
      for (int64_t c = 0; c < vectors; c += kColumns) {
        Vec acc[R][kColumns] = {};
        Base::template multiply<R>(move.hidden, K + i * move.K.column, move.K.column, move.K.row, gu + c, vectors,
                                   acc);
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
      add_outer(move.hidden, s, range.count, lambda + range.start * vectors,
                T(move.step) * T(range.sign) * T(matrix.sign), out,
                matrix.row, matrix.column, flat);
    }
  }

  // turned[column] = ± h λ of the destination that the column of K drives
  void turn_drive(const Move& move, const Vec* lambda, Vec* turned) const {
    for (int g = 0; g < move.ranges; ++g) {
      const auto& range = move.range[g];
      const T factor = T(move.step) * T(range.sign);
      for (int64_t k = 0; k < range.count * vectors; ++k)
        turned[range.column * vectors + k] = factor * lambda[range.start * vectors + k];
    }
  }

  // The rows that a move writes start anew where it replaces them.
  void clear(const Move& move, int64_t count, Vec* rows) const {
    if (!move.replaces) return;
    for (int64_t k = 0; k < count * vectors; ++k) rows[k] = Vec{};
  }

  // Whether a move of one small size took the call.
  template <class F> bool as_square(const Move& move, int64_t layer, F&& run) const {
    if (move.replaces || job.driven.data != nullptr) return false;
    int64_t destinations = 0;
    for (int g = 0; g < move.ranges; ++g) destinations += move.range[g].count;
    if (move.hidden != move.source_count || move.hidden != destinations) return false;
    // Without registers for vectors there is nothing that rows could stay in.
    if constexpr (HDNN_VECTOR_BYTES >= 16 && sizeof(T) <= HDNN_SQUARE_BYTES) {
      switch (move.hidden) {
        case 2: run(Square<T, 2>(move, layer, negative_slope)); return true;
        case 4: run(Square<T, 4>(move, layer, negative_slope)); return true;
        case 8: run(Square<T, 8>(move, layer, negative_slope)); return true;
        default: return false;
      }
    }
    return false;
  }

  // s = σ(K y_src + b), y_dst += h D s; `left` gets a copy of the source where it is wanted. Destinations lie in y, and
  // so does the source, unless y is another copy of the state.
  template <Activation A>
  void advance_move(const Move& move, int64_t layer, const Vec* source, Vec* y, Vec* s, Vec* d, Vec* left,
                    const Vec* driven) const {
    if (as_square(move, layer, [&](const auto& square) { square.template advance<A>(vectors, source, y, s, d, left); }))
      return;
    for (int64_t c = 0; left != nullptr && c < move.source_count * vectors; ++c) left[c] = source[c];
    activate_rows<A>(move, layer, source, s, d, driven);
    clear(move, move.range[0].count, y + move.range[0].start * vectors);
    drive(move, layer, s, y);
  }

  // g_u = h Dᵀ λ_dst · σ', λ_src += Kᵀ g_u
  template <Activation A>
  void retreat_move(const Move& move, int64_t layer, const Vec* lambda, Vec* to, const Vec* s, const Vec* d,
                    Vec* gu) const {
    if (as_square(move, layer, [&](const auto& square) { square.template retreat<A>(vectors, lambda, to, s, d, gu); }))
      return;
    pull<A>(move, layer, lambda, s, d, gu);
    clear(move, move.source_count, to);
    push(move, layer, gu, to);
  }

  // Whether a move of very few values took all of its way back in one go.
  template <Activation A>
  bool fused_back(const Move& move, int64_t layer, const Vec* source, const Vec* s, const Vec* d, const Vec* lambda,
                  Vec* to) const {
    if (move.hidden > 4 || !(move.own || move.identity)) return false;
    const int64_t count = vectors;
    return as_square(move, layer, [&](const auto& square) {
      if constexpr (std::remove_reference_t<decltype(square)>::rows <= 4) {
        if (move.own)
          square.template retreat_and_add<A, true>(count, move, layer, lambda, to, source, s, d);
        else
          square.template retreat_and_add<A, false>(count, move, layer, lambda, to, source, s, d);
      }
    });
  }

  // A move and its gradients back: λ_src at `to`, K, W and b, from what the way forward left.
  template <Activation A>
  void move_back(const Move& move, int64_t layer, const Vec* source, const Vec* lambda, Vec* to, Vec* gu,
                 Vec* flat) const {
    const Vec* s = source + move.source_count * vectors;
    const Vec* d = s + move.hidden * vectors;
    // Where K also drives, both parts of its gradient are products over the lanes, taken as one.
    const bool narrow = !Base::is_wide(move.source_count, move.K.column), both = job.weights_too && move.own && narrow;
    if (job.weights_too && narrow && fused_back<A>(move, layer, source, s, d, lambda, to)) return;
    if (both) turn_drive(move, lambda, flat);
    if (job.weights_too && !both) add_drive_gradient(move, layer, s, lambda, flat);
    retreat_move<A>(move, layer, lambda, to, s, d, gu);
    if (!job.weights_too) return;
    T* to_K = gradient_at(move.K, layer);
    const T sign = T(move.K.sign);
    if (both)
      Base::template outer<true>(move.hidden, gu, move.source_count, source, s, flat, sign, to_K, move.K.row,
                                 move.K.column);
    else
      add_outer(move.hidden, gu, move.source_count, source, sign, to_K, move.K.row, move.K.column, flat);
    if (job.driven.data == nullptr) add_rows(move.hidden, gu, gradient_at(move.b, layer), move.b.row);
  }
};
