// Vectors of the compiled instruction set, and activations on them.
//
// Included inside an anonymous namespace: every symbol stays local to one instruction set.
// Errors, measured over all float32 values: see tests/kernels/test_native_math.py.

#define HDNN_UNROLL _Pragma("GCC unroll 16")

template <class T> struct Simd;
template <> struct Simd<float> {
  typedef float V __attribute__((vector_size(HDNN_VECTOR_BYTES)));
  typedef int32_t I __attribute__((vector_size(HDNN_VECTOR_BYTES)));
  static constexpr int W = HDNN_VECTOR_BYTES / 4;
  static constexpr int mantissa = 23;
  static constexpr int32_t one = 127 << 23;
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  static constexpr float ln2 = 0.693147180559945309f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float log2e = 1.44269504088896341f;
  static constexpr float saturated = 20.0f;    // tanh(10) is 1
  static constexpr float smallest = -87.0f;    // exp below is flushed to 0
  static constexpr int exp_terms = 5, log_terms = 9;
  // (exp(r) - 1 - r) / r²: fitted, relative error of exp(r) - 1 at most 1.4e-8 for |r| <= 0.35
  static constexpr float exp_rest[exp_terms] = {0.49999997f, 0.16666539f, 0.041667223f, 0.0083671808f, 0.0013882396f};
};
template <> struct Simd<double> {
  typedef double V __attribute__((vector_size(HDNN_VECTOR_BYTES)));
  typedef int64_t I __attribute__((vector_size(HDNN_VECTOR_BYTES)));
  static constexpr int W = HDNN_VECTOR_BYTES / 8;
  static constexpr int mantissa = 52;
  static constexpr int64_t one = int64_t{1023} << 52;
  static constexpr double magic = 6755399441055744.0;
  static constexpr double ln2 = 0.693147180559945309, ln2_high = 6.93147180369123816490e-01;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr double log2e = 1.44269504088896338700;
  static constexpr double saturated = 40.0;
  static constexpr double smallest = -708.0;
  static constexpr int exp_terms = 13, log_terms = 18;
  // the Taylor series
  static constexpr double exp_rest[exp_terms] = {
      1 / 2.0, 1 / 6.0, 1 / 24.0, 1 / 120.0, 1 / 720.0, 1 / 5040.0, 1 / 40320.0, 1 / 362880.0, 1 / 3628800.0,
      1 / 39916800.0, 1 / 479001600.0, 1 / 6227020800.0, 1 / 87178291200.0};
};

template <class T> using V = typename Simd<T>::V;
template <class T> using I = typename Simd<T>::I;

// The smaller of both, a NaN in `b` let through: one instruction where the compiler would take two.
#if HDNN_VECTOR_BYTES == 64 && defined(__AVX512F__)
static HDNN_INLINE V<float> least(V<float> a, V<float> b) { return V<float>(_mm512_min_ps(__m512(a), __m512(b))); }
static HDNN_INLINE V<double> least(V<double> a, V<double> b) { return V<double>(_mm512_min_pd(__m512d(a), __m512d(b))); }
#elif HDNN_VECTOR_BYTES == 32 && defined(__AVX__)
static HDNN_INLINE V<float> least(V<float> a, V<float> b) { return V<float>(_mm256_min_ps(__m256(a), __m256(b))); }
static HDNN_INLINE V<double> least(V<double> a, V<double> b) { return V<double>(_mm256_min_pd(__m256d(a), __m256d(b))); }
#elif HDNN_VECTOR_BYTES == 16 && defined(__SSE2__)
static HDNN_INLINE V<float> least(V<float> a, V<float> b) { return V<float>(_mm_min_ps(__m128(a), __m128(b))); }
static HDNN_INLINE V<double> least(V<double> a, V<double> b) { return V<double>(_mm_min_pd(__m128d(a), __m128d(b))); }
#else
template <class U> static HDNN_INLINE U least(U a, U b) { return a < b ? a : b; }
#endif

// 2^k and expm1(r) with t = k ln 2 + r, |r| <= ln 2 / 2, so that exp(t) = 2^k (1 + expm1(r)). `Exact` takes ln 2 in two
// parts, for large negative k.
template <class T, bool Exact> static HDNN_INLINE void split_exponential(V<T> t, V<T>& power, V<T>& rest) {
  using S = Simd<T>;
  const V<T> shifted = t * S::log2e + S::magic;
  const V<T> k = shifted - S::magic;
  const V<T> r = Exact ? (t - k * S::ln2_high) - k * S::ln2_low : t - k * S::ln2;
  power = (V<T>)(((I<T>)shifted << S::mantissa) + S::one);
  V<T> sum = V<T>{} + S::exp_rest[S::exp_terms - 1];
  for (int j = S::exp_terms - 2; j >= 0; --j) sum = sum * r + S::exp_rest[j];
  rest = r + r * r * sum;
}

// `split_exponential` of several, stage by stage; `rest` brings the exponents.
template <class T, int M> static HDNN_INLINE void split_exponentials(V<T> (&power)[M], V<T> (&rest)[M]) {
  using S = Simd<T>;
  V<T> sum[M];
  HDNN_UNROLL for (int j = 0; j < M; ++j) power[j] = rest[j] * S::log2e + S::magic;
  HDNN_UNROLL for (int j = 0; j < M; ++j) {
    const V<T> k = power[j] - S::magic;
    rest[j] = sizeof(T) == 8 ? (rest[j] - k * S::ln2_high) - k * S::ln2_low : rest[j] - k * S::ln2;
    power[j] = (V<T>)(((I<T>)power[j] << S::mantissa) + S::one);
    sum[j] = V<T>{} + S::exp_rest[S::exp_terms - 1];
  }
  HDNN_UNROLL for (int i = S::exp_terms - 2; i >= 0; --i)
    HDNN_UNROLL for (int j = 0; j < M; ++j) sum[j] = sum[j] * rest[j] + S::exp_rest[i];
  HDNN_UNROLL for (int j = 0; j < M; ++j) rest[j] = rest[j] + rest[j] * rest[j] * sum[j];
}

template <class T> static HDNN_INLINE V<T> magnitude(V<T> u) {
  return (V<T>)((I<T>)u & ~((I<T>){} + (typename std::make_unsigned<decltype(Simd<T>::one + 0)>::type(1)
                                        << (sizeof(T) * 8 - 1))));
}

// tanh |u| = E / (E + 2), E = expm1(2 |u|): no cancellation at either end. NaN passes through. An error of 2 |u| in E
// shrinks like exp(-2 |u|), so float32 needs ln 2 in one part only.
template <class T> static HDNN_INLINE V<T> tanh_of(V<T> u) {
  const V<T> size = magnitude<T>(u);
  const V<T> t = least(V<T>{} + Simd<T>::saturated, size + size);
  V<T> power, rest;
  split_exponential<T, sizeof(T) == 8>(t, power, rest);
  const V<T> E = rest * power + (power - T(1));
  const V<T> value = E / (E + T(2));
  return (V<T>)((I<T>)value | ((I<T>)u ^ (I<T>)size));  // size differs from u in the sign bit alone
}

// The same of several, stage by stage: the processor sees only so far ahead, and one in double precision is longer.
template <class T, int M> static HDNN_INLINE void tanh_of(V<T> (&u)[M]) {
  V<T> size[M], power[M], rest[M];
  HDNN_UNROLL for (int j = 0; j < M; ++j) {
    size[j] = magnitude<T>(u[j]);
    rest[j] = least(V<T>{} + Simd<T>::saturated, size[j] + size[j]);
  }
  split_exponentials<T, M>(power, rest);
  HDNN_UNROLL for (int j = 0; j < M; ++j) rest[j] = rest[j] * power[j] + (power[j] - T(1));
  HDNN_UNROLL for (int j = 0; j < M; ++j) {
    const V<T> value = rest[j] / (rest[j] + T(2));
    u[j] = (V<T>)((I<T>)value | ((I<T>)u[j] ^ (I<T>)size[j]));
  }
}

// e = exp(-|u|), flushed to 0 where it is not a normal number.
template <class T> static HDNN_INLINE V<T> decay_of(V<T> u) {
  const V<T> t = -magnitude<T>(u);
  const V<T> bounded = t < Simd<T>::smallest ? V<T>{} + Simd<T>::smallest : t;
  V<T> power, rest;
  split_exponential<T, true>(bounded, power, rest);
  const V<T> e = power + power * rest;
  return t < Simd<T>::smallest ? V<T>{} : e;
}

template <class T> static HDNN_INLINE V<T> sigmoid_of(V<T> u, V<T> e) {
  return (u < T(0) ? e : V<T>{} + T(1)) / (T(1) + e);
}

// log(1 + e) = 2 atanh(e / (2 + e)) for 0 <= e <= 1, by the series of atanh: its argument is at most 1/3.
template <class T> static HDNN_INLINE V<T> log1p_of(V<T> e) {
  const V<T> z = e / (e + T(2));
  const V<T> square = z * z;
  V<T> sum = V<T>{} + T(1) / T(2 * Simd<T>::log_terms + 1);
  for (int j = Simd<T>::log_terms - 1; j >= 1; --j) sum = sum * square + T(1) / T(2 * j + 1);
  return T(2) * (z + z * square * sum);
}

// σ(u), and σ'(u) where it cannot be had from σ(u) without loss (softplus).
template <class T, hdnn::Activation A>
static HDNN_INLINE V<T> activate(V<T> u, T slope, V<T>& derivative) {
  using hdnn::Activation;
  if constexpr (A == Activation::identity) return u;
  if constexpr (A == Activation::relu) return u <= T(0) ? V<T>{} : u;
  if constexpr (A == Activation::leaky_relu) return u > T(0) ? u : slope * u;
  if constexpr (A == Activation::tanh) return tanh_of<T>(u);
  if constexpr (A == Activation::sigmoid) return sigmoid_of<T>(u, decay_of<T>(u));
  if constexpr (A == Activation::softplus) {
    const V<T> e = decay_of<T>(u);
    derivative = sigmoid_of<T>(u, e);
    return (u < T(0) ? V<T>{} : u) + log1p_of<T>(e);
  }
}

// σ of several, and σ' of each for softplus.
template <class T, hdnn::Activation A, int M>
static HDNN_INLINE void activate(V<T> (&u)[M], T slope, V<T> (&derivative)[M]) {
  if constexpr (A == hdnn::Activation::tanh && sizeof(T) == 8)
    tanh_of<T, M>(u);
  else
    HDNN_UNROLL for (int j = 0; j < M; ++j) u[j] = activate<T, A>(u[j], slope, derivative[j]);
}

// σ' from s = σ(u); softplus stores its own.
template <class T, hdnn::Activation A> static HDNN_INLINE V<T> slope_of(V<T> s, T slope) {
  using hdnn::Activation;
  const V<T> one = V<T>{} + T(1);
  if constexpr (A == Activation::relu) return s > T(0) ? one : V<T>{};
  if constexpr (A == Activation::leaky_relu) return s > T(0) ? one : one * slope;
  if constexpr (A == Activation::tanh) return T(1) - s * s;
  if constexpr (A == Activation::sigmoid) return s * (T(1) - s);
  return one;
}
