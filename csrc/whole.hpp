// The output layer over whole images: z = A y + b, with A (outputs, features · pixels).
//
// Included inside an anonymous namespace, as math.hpp is. Images lie one after another across the lanes of y, and side
// by side across the columns of z.

template <class T> struct Heads {
  using Vec = V<T>;
  static constexpr int W = Simd<T>::W;
  static constexpr int kImages = 4;  // of a tile: as many sums as the registers hold

  const Whole& w;
  const int64_t inputs = w.features * w.pixels;
  const T *const A = numbers<T>(w.A), *const y = numbers<T>(w.y);

  explicit Heads(const Whole& whole) : w(whole) {}

  static HDNN_INLINE Vec read(const T* from, int64_t count) {
    Vec vector{};
    if (count >= W)
      __builtin_memcpy(&vector, from, sizeof vector);
    else
      for (int64_t k = 0; k < count; ++k) vector[k] = from[k];
    return vector;
  }
  static HDNN_INLINE void write(T* to, int64_t count, const Vec& vector) {
    if (count >= W)
      __builtin_memcpy(to, &vector, sizeof vector);
    else
      for (int64_t k = 0; k < count; ++k) to[k] = vector[k];
  }

  // Images in tiles, whose size is a constant.
  template <class F> HDNN_INLINE void tiles(F&& run) const {
    int64_t i = 0;
    for (; i + kImages <= w.images; i += kImages) run(i, std::integral_constant<int, kImages>{});
    switch (w.images - i) {
      case 3: run(i, std::integral_constant<int, 3>{}); break;
      case 2: run(i, std::integral_constant<int, 2>{}); break;
      case 1: run(i, std::integral_constant<int, 1>{}); break;
      default: break;
    }
  }

  template <int R, int G> void forward_tile(int64_t r, int64_t i, T* z) const {
    Vec sum[R][G] = {};
    for (int64_t f = 0; f < w.features; ++f) {
      const T *a = A + r * inputs + f * w.pixels, *x = y + f * w.lanes + i * w.pixels;
      for (int64_t p = 0; p < w.pixels; p += W) {
        Vec in[G];
        for (int g = 0; g < G; ++g) in[g] = read(x + g * w.pixels + p, w.pixels - p);
        for (int k = 0; k < R; ++k) {
          const Vec left = read(a + k * inputs + p, w.pixels - p);
          for (int g = 0; g < G; ++g) sum[k][g] += left * in[g];
        }
      }
    }
    for (int k = 0; k < R; ++k)
      for (int g = 0; g < G; ++g) {
        T total = 0;
        for (int j = 0; j < W; ++j) total += sum[k][g][j];
        z[(r + k) * w.columns + i + g] = total + numbers<T>(w.b)[r + k];
      }
  }

  void forward(T* z) const {
    tiles([&](int64_t i, auto images) {
      Products<T>::tiles(w.outputs, [&](int64_t r, auto rows) {
        forward_tile<decltype(rows)::value, decltype(images)::value>(r, i, z);
      });
    });
  }

  // `to_y`, where it is wanted, is written; the gradient of A grows.
  template <int G, bool Y> void back_tile(int64_t i, const T* g, T* to_y, T* to_A) const {
    for (int64_t f = 0; f < w.features; ++f)
      for (int64_t p = 0; p < w.pixels; p += W) {
        const int64_t place = f * w.lanes + i * w.pixels + p, left = w.pixels - p;
        Vec in[G], pull[G] = {};
        for (int k = 0; k < G; ++k) in[k] = read(y + place + k * w.pixels, left);
        const T *a = A + f * w.pixels + p, *slope = g + i;
        T* to = to_A + f * w.pixels + p;
        for (int64_t o = 0; o < w.outputs; ++o, a += inputs, to += inputs, slope += w.columns) {
          Vec sum = read(to, left);
          const Vec weight = Y ? read(a, left) : Vec{};
          for (int k = 0; k < G; ++k) {
            sum += slope[k] * in[k];
            if (Y) pull[k] += slope[k] * weight;
          }
          write(to, left, sum);
        }
        for (int k = 0; Y && k < G; ++k) write(to_y + place + k * w.pixels, left, pull[k]);
      }
  }

  void back(const T* g, T* to_y, T* to_A, T* to_b) const {
    tiles([&](int64_t i, auto images) {
      constexpr int G = decltype(images)::value;
      if (to_y != nullptr)
        back_tile<G, true>(i, g, to_y, to_A);
      else
        back_tile<G, false>(i, g, to_y, to_A);
    });
    Products<T>(w.columns).add_rows(w.outputs, rows<T>(g), to_b, 1);
  }
};
