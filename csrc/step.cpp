// The parts of a training step beside the flow; see step.hpp. As in kernel.cpp, all is local to this file.
#include "step.hpp"

#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "job.hpp"

#define HDNN_INLINE inline __attribute__((always_inline))

namespace {

using hdnn::Affine;
using hdnn::Loss;
using hdnn::Product;
using hdnn::Rule;
using hdnn::Scores;
using hdnn::Update;
using hdnn::Whole;

#include "math.hpp"
#include "products.hpp"

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8, kMomentum = 0.9;  // PyTorch's, and the recipes'

double logarithm(double x) { return __builtin_log(x); }
float logarithm(float x) { return __builtin_logf(x); }
double root(double x) { return __builtin_sqrt(x); }
float root(float x) { return __builtin_sqrtf(x); }

template <class T> const V<T>* rows(const void* x) { return static_cast<const V<T>*>(x); }
template <class T> V<T>* rows(void* x) { return static_cast<V<T>*>(x); }
template <class T> const T* numbers(const void* x) { return static_cast<const T*>(x); }
template <class T> T* numbers(void* x) { return static_cast<T*>(x); }

#include "whole.hpp"

template <class T> void affine(const Affine& map, void* u) {
  const Products<T> products(map.lanes);
  const int64_t vectors = products.vectors;
  const T *A = numbers<T>(map.A), *b = numbers<T>(map.b);
  products.tiles(map.outputs, [&](int64_t r, auto size) {
    constexpr int R = decltype(size)::value;
    for (int64_t c = 0; c < vectors; c += kColumns) {
      V<T> acc[R][kColumns] = {};
      products.template multiply<R>(map.inputs, A + r * map.inputs, map.inputs, 1, rows<T>(map.x) + c, vectors, acc);
      for (int j = 0; j < R; ++j)
        for (int k = 0; k < kColumns; ++k) rows<T>(u)[(r + j) * vectors + c + k] = acc[j][k] + b[r + j];
    }
  });
}

template <class T> void affine_back(const Affine& map, const void* g, void* x, void* A, void* b, void* flat) {
  const Products<T> products(map.lanes);
  const int64_t vectors = products.vectors;
  products.add_outer(map.outputs, rows<T>(g), map.inputs, rows<T>(map.x), T(1), numbers<T>(A), map.inputs, 1,
                     rows<T>(flat));
  products.add_rows(map.outputs, rows<T>(g), numbers<T>(b), 1);
  if (x == nullptr) return;
  products.tiles(map.inputs, [&](int64_t i, auto size) {
    constexpr int R = decltype(size)::value;
    for (int64_t c = 0; c < vectors; c += kColumns) {
      V<T> acc[R][kColumns] = {};
      products.template multiply<R>(map.outputs, numbers<T>(map.A) + i, 1, map.inputs, rows<T>(g) + c, vectors, acc);
      for (int j = 0; j < R; ++j)
        for (int k = 0; k < kColumns; ++k) rows<T>(x)[(i + j) * vectors + c + k] = acc[j][k];
    }
  });
}

template <class T> V<T> score_squares(const Scores& s, int64_t vectors) {
  const T each = T(1) / T(s.outputs);
  V<T> total{};
  for (int64_t k = 0; k < vectors; ++k) {
    V<T> sum{};
    for (int64_t o = 0; o < s.outputs; ++o) {
      const V<T> rest = rows<T>(s.z)[o * vectors + k] - rows<T>(s.target)[o * vectors + k];
      sum += rest * rest;
      rows<T>(s.g)[o * vectors + k] = T(2) * each * rest * rows<T>(s.share)[k];
    }
    total += rows<T>(s.share)[k] * (each * sum);
  }
  return total;
}

template <class T> V<T> score_binary(const Scores& s, int64_t vectors) {
  const T kept = T(1 - s.smoothing), spread = T(s.smoothing / 2);
  V<T> total{};
  for (int64_t k = 0; k < vectors; ++k) {
    const V<T> z = rows<T>(s.z)[k], target = rows<T>(s.target)[k] * kept + spread;
    const V<T> e = decay_of<T>(z);
    total += rows<T>(s.share)[k] * ((z < T(0) ? V<T>{} : z) - z * target + log1p_of<T>(e));
    rows<T>(s.g)[k] = (sigmoid_of<T>(z, e) - target) * rows<T>(s.share)[k];
  }
  return total;
}

// With u = z - max z: log Σ exp u - (1 - ε) u_class - ε mean u
template <class T> V<T> score_classes(const Scores& s, int64_t vectors) {
  V<T> total{};
  const T kept = T(1 - s.smoothing), spread = T(s.smoothing / double(s.outputs));
  for (int64_t k = 0; k < vectors; ++k) {
    const V<T>* z = rows<T>(s.z) + k;
    V<T>* g = rows<T>(s.g) + k;
    const V<T> label = rows<T>(s.target)[k];
    V<T> most = z[0];
    for (int64_t o = 1; o < s.outputs; ++o) most = z[o * vectors] > most ? z[o * vectors] : most;
    V<T> sum{}, own{}, all{};
    for (int64_t o = 0; o < s.outputs; ++o) {
      const V<T> u = z[o * vectors] - most;  // at most 0
      const V<T> power = decay_of<T>(u);
      g[o * vectors] = power;
      sum += power;
      own = label == T(o) ? u : own;
      all += u;
    }
    const V<T> share = rows<T>(s.share)[k], scale = share / sum;
    for (int64_t o = 0; o < s.outputs; ++o) {
      const V<T> hit = label == T(o) ? V<T>{} + kept : V<T>{};
      g[o * vectors] = g[o * vectors] * scale - (hit + spread) * share;
    }
    V<T> logs;
    for (int j = 0; j < Simd<T>::W; ++j) logs[j] = logarithm(sum[j]);
    total += share * (logs - kept * own - spread * all);
  }
  return total;
}

template <class T> double score(const Scores& s) {
  const int64_t vectors = s.lanes / Simd<T>::W;
  if (s.loss == Loss::given) {
    for (int64_t i = 0; i < s.outputs * vectors; ++i) rows<T>(s.g)[i] = rows<T>(s.target)[i];
    return 0;
  }
  const V<T> each = s.loss == Loss::squares  ? score_squares<T>(s, vectors)
                    : s.loss == Loss::binary ? score_binary<T>(s, vectors)
                                             : score_classes<T>(s, vectors);
  double total = 0;
  for (int j = 0; j < Simd<T>::W; ++j) total += double(each[j]);
  return total;
}

template <class T> void product(const Product& p, const T* a, const T* b, T* __restrict out) {
  for (int64_t r = 0; r < p.rows; ++r)
    for (int64_t i = 0; i < p.inner; ++i) {
      const T left = a[r * p.row + i * p.column];
      for (int64_t c = 0; c < p.columns; ++c) out[r * p.columns + c] += left * b[i * p.columns + c];
    }
}

// Σ f(i) in an order that the length alone decides, several sums side by side.
template <class T, class F> HDNN_INLINE double summed(int64_t count, F&& f) {
  constexpr int side = 4 * Simd<T>::W;
  T sums[side] = {};
  int64_t i = 0;
  for (; i + side <= count; i += side)
    for (int j = 0; j < side; ++j) sums[j] += f(i + j);
  double total = 0;
  for (; i < count; ++i) total += double(f(i));
  for (int j = 0; j < side; ++j) total += double(sums[j]);
  return total;
}

template <class T> double smooth(int64_t layers, int64_t size, T factor, const T* w, T* __restrict g) {
  if (layers < 2) return 0;
  const int64_t last = (layers - 1) * size;
  for (int64_t i = 0; i < size; ++i) g[i] -= factor * (w[i + size] - w[i]);
  for (int64_t i = size; i < last; ++i) g[i] += factor * ((w[i] - w[i - size]) - (w[i + size] - w[i]));
  for (int64_t i = last; i < last + size; ++i) g[i] += factor * (w[i] - w[i - size]);
  return summed<T>(last, [&](int64_t i) {
    const T rise = w[i + size] - w[i];
    return rise * rise;
  });
}

template <class T> double square(int64_t count, const T* w) {
  return summed<T>(count, [&](int64_t i) { return w[i] * w[i]; });
}

template <class T> double shrink(int64_t count, T factor, const T* w, T* __restrict g) {
  for (int64_t i = 0; i < count; ++i) g[i] += factor * w[i];
  return square(count, w);
}

template <class T> void adam(const Update& u, bool decoupled) {
  T* __restrict p = numbers<T>(u.parameters);
  T* __restrict m = numbers<T>(u.first);
  T* __restrict v = numbers<T>(u.second);
  const T* __restrict g = numbers<T>(u.gradient);
  const T scale = T(u.scale), coupled = decoupled ? T(0) : T(u.decay);
  const T shrunk = decoupled ? T(1 - u.rate * u.decay) : T(1), step = T(u.rate / u.first_correction);
  const T correction = T(1 / u.second_correction);
  for (int64_t i = 0; i < u.count; ++i) {
    const T pull = g[i] * scale + coupled * p[i];
    m[i] += T(1 - kBeta1) * (pull - m[i]);
    v[i] = T(kBeta2) * v[i] + T(1 - kBeta2) * pull * pull;
    p[i] = shrunk * p[i] - step * m[i] / (root(v[i]) * correction + T(kEpsilon));
  }
}

template <class T> void momentum(const Update& u) {
  T* __restrict p = numbers<T>(u.parameters);
  T* __restrict m = numbers<T>(u.first);
  const T* __restrict g = numbers<T>(u.gradient);
  for (int64_t i = 0; i < u.count; ++i) {
    m[i] = T(kMomentum) * m[i] + (g[i] * T(u.scale) + T(u.decay) * p[i]);
    p[i] -= T(u.rate) * m[i];
  }
}

template <class T> void update(const Update& u) {
  if (u.rule == Rule::sgd) return momentum<T>(u);
  adam<T>(u, u.rule == Rule::adamw);
}

void run_affine(bool doubles, const Affine& map, void* u) {
  return doubles ? affine<double>(map, u) : affine<float>(map, u);
}

void run_affine_back(bool doubles, const Affine& map, const void* g, void* x, void* A, void* b, void* flat) {
  return doubles ? affine_back<double>(map, g, x, A, b, flat) : affine_back<float>(map, g, x, A, b, flat);
}

void run_whole(bool doubles, const Whole& map, void* z) {
  return doubles ? Heads<double>(map).forward(numbers<double>(z)) : Heads<float>(map).forward(numbers<float>(z));
}

void run_whole_back(bool doubles, const Whole& map, const void* g, void* y, void* A, void* b) {
  const auto back = [&](auto heads, auto* one) {
    using T = std::remove_pointer_t<decltype(one)>;
    heads.back(numbers<T>(g), numbers<T>(y), numbers<T>(A), numbers<T>(b));
  };
  return doubles ? back(Heads<double>(map), numbers<double>(y)) : back(Heads<float>(map), numbers<float>(y));
}

double run_score(bool doubles, const Scores& s) { return doubles ? score<double>(s) : score<float>(s); }

void run_product(bool doubles, const Product& p, const void* a, const void* b, void* out) {
  return doubles ? product(p, numbers<double>(a), numbers<double>(b), numbers<double>(out))
                 : product(p, numbers<float>(a), numbers<float>(b), numbers<float>(out));
}

double run_smooth(bool doubles, int64_t layers, int64_t size, double factor, const void* w, void* g) {
  return doubles ? smooth(layers, size, factor, numbers<double>(w), numbers<double>(g))
                 : smooth(layers, size, float(factor), numbers<float>(w), numbers<float>(g));
}

double run_shrink(bool doubles, int64_t count, double factor, const void* w, void* g) {
  return doubles ? shrink(count, factor, numbers<double>(w), numbers<double>(g))
                 : shrink(count, float(factor), numbers<float>(w), numbers<float>(g));
}

double run_square(bool doubles, int64_t count, const void* w) {
  return doubles ? square(count, numbers<double>(w)) : square(count, numbers<float>(w));
}

void run_update(bool doubles, const Update& u) { return doubles ? update<double>(u) : update<float>(u); }

}  // namespace

namespace hdnn {
extern const StepKernel HDNN_STEP;
const StepKernel HDNN_STEP = {HDNN_KERNEL_NAME, run_affine, run_affine_back, run_whole,  run_whole_back, run_score,
                              run_product,      run_smooth, run_shrink,      run_square, run_update};
}  // namespace hdnn
