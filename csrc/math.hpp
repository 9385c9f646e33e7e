// Vectors of the compiled instruction set, and activations on them.
//
// Included inside an anonymous namespace: every symbol stays local to one instruction set.
// Errors, measured over all float32 values: see tests/kernels/test_native_math.py.

template <class T> struct Simd;
template <> struct Simd<float> {
  typedef float V __attribute__((vector_size(HDNN_VECTOR_BYTES)));
  typedef int32_t I __attribute__((vector_size(HDNN_VECTOR_BYTES)));
  static constexpr int W = HDNN_VECTOR_BYTES / 4;
  static constexpr int mantissa = 23;
  static constexpr int32_t one = 127 << 23;
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, log2e = 1.44269504088896341f;
  static constexpr float saturated = 20.0f;    // tanh(10) is 1
  static constexpr float smallest = -87.0f;    // exp below is flushed to 0
  static constexpr int exp_terms = 7, log_terms = 9;
};
template <> struct Simd<double> {
  typedef double V __attribute__((vector_size(HDNN_VECTOR_BYTES)));
  typedef int64_t I __attribute__((vector_size(HDNN_VECTOR_BYTES)));
  static constexpr int W = HDNN_VECTOR_BYTES / 8;
  static constexpr int mantissa = 52;
  static constexpr int64_t one = int64_t{1023} << 52;
  static constexpr double magic = 6755399441055744.0;
  static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  static constexpr double log2e = 1.44269504088896338700;
  static constexpr double saturated = 40.0;
  static constexpr double smallest = -708.0;
  static constexpr int exp_terms = 14, log_terms = 18;
};

template <class T> using V = typename Simd<T>::V;
template <class T> using I = typename Simd<T>::I;

// 2^k and expm1(r) with t = k ln 2 + r, |r| <= ln 2 / 2, so that exp(t) = 2^k (1 + expm1(r)).
template <class T> static HDNN_INLINE void split_exponential(V<T> t, V<T>& power, V<T>& rest) {
  using S = Simd<T>;
  const V<T> shifted = t * S::log2e + S::magic;
  const V<T> k = shifted - S::magic;
  const V<T> r = (t - k * S::ln2_high) - k * S::ln2_low;
  power = (V<T>)(((I<T>)shifted << S::mantissa) + S::one);
  // Taylor: r + r² (1/2! + r/3! + ...); |r| is small, and the leading term is exact.
  constexpr T inverse[15] = {1, 1, T(1) / 2, T(1) / 6, T(1) / 24, T(1) / 120, T(1) / 720, T(1) / 5040, T(1) / 40320,
                             T(1) / 362880, T(1) / 3628800, T(1) / 39916800, T(1) / 479001600, T(1) / 6227020800.0,
                             T(1) / 87178291200.0};
  V<T> sum = V<T>{} + inverse[S::exp_terms];
  for (int j = S::exp_terms - 1; j >= 2; --j) sum = sum * r + inverse[j];
  rest = r + r * r * sum;
}

template <class T> static HDNN_INLINE V<T> magnitude(V<T> u) {
  return (V<T>)((I<T>)u & ~((I<T>){} + (typename std::make_unsigned<decltype(Simd<T>::one + 0)>::type(1)
                                        << (sizeof(T) * 8 - 1))));
}

// tanh |u| = E / (E + 2), E = expm1(2 |u|): no cancellation at either end. Comparisons let NaN through.
template <class T> static HDNN_INLINE V<T> tanh_of(V<T> u) {
  const V<T> size = magnitude<T>(u);
  V<T> t = size + size;
  t = t > Simd<T>::saturated ? V<T>{} + Simd<T>::saturated : t;
  V<T> power, rest;
  split_exponential<T>(t, power, rest);
  const V<T> E = rest * power + (power - T(1));
  const V<T> value = E / (E + T(2));
  return (V<T>)((I<T>)value | ((I<T>)u ^ (I<T>)size));  // size differs from u in the sign bit alone
}

// e = exp(-|u|), flushed to 0 where it is not a normal number.
template <class T> static HDNN_INLINE V<T> decay_of(V<T> u) {
  const V<T> t = -magnitude<T>(u);
  const V<T> bounded = t < Simd<T>::smallest ? V<T>{} + Simd<T>::smallest : t;
  V<T> power, rest;
  split_exponential<T>(bounded, power, rest);
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
