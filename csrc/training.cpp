// Training steps, one network after another or side by side: each has an order of batches and memory of its own, so
// that its bits depend neither on its neighbours nor on the number of threads.
#include "training.hpp"

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace hdnn {

extern const StepKernel step_baseline;
#ifdef HDNN_X86
extern const StepKernel step_avx2;
extern const StepKernel step_avx512;
#endif

namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999;
constexpr auto kPatience = std::chrono::milliseconds(50);  // between two questions whether to stop

const StepKernel& step_kernel() {
#ifdef HDNN_X86
  for (const StepKernel* kernel : {&step_avx2, &step_avx512})
    if (std::strcmp(kernel->name, instruction_set()) == 0) return *kernel;
#endif
  return step_baseline;
}

// Asks from the calling thread whether to stop, and lets the others know.
class Guard {
 public:
  explicit Guard(Interrupt interrupt) : interrupt_(interrupt), asked_(Clock::now()) {}
  bool stops(bool caller) {
    if (caller && interrupt_ != nullptr && Clock::now() - asked_ > kPatience) {
      if (interrupt_(nullptr)) stopped_ = true;
      asked_ = Clock::now();
    }
    return stopped_;
  }
  bool stopped() const { return stopped_; }

 private:
  using Clock = std::chrono::steady_clock;
  Interrupt interrupt_;
  Clock::time_point asked_;
  std::atomic<bool> stopped_{false};
};

bool is_caller() {
#ifdef _OPENMP
  return omp_get_thread_num() == 0;
#else
  return true;
#endif
}

int64_t largest_batch(const Trainees& t) {
  int64_t most = 1;
  for (int64_t k = 0; k < t.steps; ++k) {
    const int64_t rows = t.bounds[k + 1] - t.bounds[k];
    most = rows > most ? rows : most;
  }
  return most;
}

bool learns(const Training& t, int part) { return (t.trains >> part) & 1; }

// Work space of one thread, and the steps of the networks that it takes.
template <class T> class Worker {
 public:
  Worker(const Training& training, const Trainees& trainees, int threads, Interrupt interrupt)
      : t_(training), all_(trainees), step_(step_kernel()), threads_(threads), interrupt_(interrupt) {
    parts_of(t_, start_);
    most_ = largest_batch(all_);
    lanes_ = step_.lanes(kDoubles, most_);
    kept_size_ = kept(kDoubles, t_.flow, 1, most_, 1);
    const int64_t n = t_.flow.features, d = t_.linear ? t_.inputs : 0, o = t_.outputs;
    const int64_t wide = n > d ? n : d;
    int64_t total = 0;
    const auto room = [&total](int64_t count) {
      const int64_t at = total;
      total += (count + kLine - 1) / kLine * kLine;
      return at;
    };
    const int64_t places[] = {
        room(d * lanes_), room(n * lanes_), room(n * lanes_), room(n * lanes_), room(n * lanes_),
        room(o * lanes_), room(o * lanes_), room((t_.loss == Loss::squares ? o : 1) * lanes_),
        room(lanes_), room(lanes_), room(wide * lanes_), room(start_[kParts]),
        room(builds_K() ? weight_size(t_.flow) : 0), room(builds_K() ? weight_size(t_.flow) : 0),
        room(drive_size(t_.flow)), room(drive_size(t_.flow)),
        room(t_.J_index != nullptr ? n * n : 0), room(t_.J_index != nullptr ? n * n : 0), room(kept_size_)};
    memory_.reset(static_cast<T*>(::operator new(static_cast<size_t>(total) * sizeof(T), std::align_val_t{64})));
    std::memset(memory_.get(), 0, static_cast<size_t>(total) * sizeof(T));
    T** const names[] = {&x_, &y_, &out_, &g_, &gy_, &z_, &gz_, &target_, &share_, &losses_,
                         &flat_, &gradient_, &K_, &gK_, &W_, &gW_, &J_, &gJ_, &kept_};
    for (size_t k = 0; k < sizeof(names) / sizeof(*names); ++k) *names[k] = memory_.get() + places[k];
  }

  // All steps of one network.
  void run(int64_t model, Guard& guard) {
    T* const losses = static_cast<T*>(all_.losses) + model * all_.steps;
    int64_t k = 0;
    parameters_ = static_cast<T*>(all_.parameters) + model * start_[kParts];
    if (all_.gradient != nullptr) std::memset(told(model), 0, static_cast<size_t>(start_[kParts]) * sizeof(T));
    if (all_.taken != nullptr) all_.taken[model] = 0;
    for (; k < all_.steps && all_.failed[model] < 0; ++k) {
      if (guard.stops(is_caller())) return;
      losses[k] = objective(model, k);
      if (!std::isfinite(losses[k])) {
        all_.failed[model] = all_.done + k;
        continue;
      }
      move(model, k);
      if (all_.taken != nullptr) all_.taken[model] = k + 1;
    }
    for (; k < all_.steps; ++k) losses[k] = std::numeric_limits<T>::quiet_NaN();
  }

 private:
  static constexpr bool kDoubles = sizeof(T) == 8;
  static constexpr int64_t kLine = 64 / sizeof(T);

  bool builds_K() const { return t_.index != nullptr; }
  int64_t stored() const { return t_.flow.shared ? 1 : t_.flow.layers; }
  T* part(int which) const { return parameters_ + start_[which]; }
  T* pull(int which) const { return gradient_ + start_[which]; }
  T* told(int64_t model) const { return static_cast<T*>(all_.gradient) + model * start_[kParts]; }
  int64_t size(int which) const { return start_[which + 1] - start_[which]; }

  // The objective on a batch, and its gradient where it is finite.
  T objective(int64_t model, int64_t k) {
    const int64_t rows = all_.bounds[k + 1] - all_.bounds[k];
    take(model, all_.order + model * all_.order_model + all_.bounds[k], rows);
    build();
    const int64_t layout = forward(kDoubles, t_.flow, arrays(rows), threads_, interrupt_);
    const Affine head{lanes_, t_.outputs, t_.flow.features, part(head_weight), part(head_bias), out_};
    step_.affine(kDoubles, head, z_);
    step_.score(kDoubles, {t_.loss, lanes_, t_.outputs, t_.smoothing, z_, target_, share_, losses_, gz_});
    tell(model, k, rows);
    double loss = 0;
    for (int64_t i = 0; i < rows; ++i) loss += double(share_[i]) * double(losses_[i]);
    if (!std::isfinite(loss)) return static_cast<T>(loss);
    std::memset(gradient_, 0, static_cast<size_t>(start_[kParts]) * sizeof(T));
    step_.affine_back(kDoubles, head, gz_, g_, pull(head_weight), pull(head_bias), flat_);
    back(rows, layout);
    return static_cast<T>(loss + regularise());
  }

  // The chosen rows across the lanes, lifted; targets and shares. Idle lanes are zero.
  void take(int64_t model, const int64_t* chosen, int64_t rows) {
    const int64_t n = t_.flow.features, d = t_.inputs;
    if (rows != rows_) {
      const struct { T* rows; int64_t height; } idle[] = {{out_, n}, {gy_, n}, {share_, 1}, {x_, t_.linear ? d : 0}};
      for (const auto& each : idle)
        for (int64_t j = 0; j < each.height; ++j)
          for (int64_t i = rows; i < lanes_; ++i) each.rows[j * lanes_ + i] = 0;
      rows_ = rows;
    }
    const T* x = static_cast<const T*>(all_.x) + model * all_.x_model;
    T* to = t_.linear ? x_ : y_;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < d; ++j) to[j * lanes_ + i] = x[chosen[i] * d + j];
    if (t_.linear) step_.affine(kDoubles, {lanes_, n, d, part(lift_weight), part(lift_bias), x_}, y_);
    if (t_.loss == Loss::squares) {
      const T* y = static_cast<const T*>(all_.y) + model * all_.y_model;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t o = 0; o < t_.outputs; ++o) target_[o * lanes_ + i] = y[chosen[i] * t_.outputs + o];
    } else {
      const int64_t* y = static_cast<const int64_t*>(all_.y) + model * all_.y_model;
      for (int64_t i = 0; i < rows; ++i) target_[i] = static_cast<T>(y[chosen[i]]);
    }
    if (all_.weight == nullptr) {
      for (int64_t i = 0; i < rows; ++i) share_[i] = T(1) / T(rows);
      return;
    }
    const T* weight = static_cast<const T*>(all_.weight) + model * all_.weight_model;
    double sum = 0;
    for (int64_t i = 0; i < rows; ++i) sum += double(weight[chosen[i]]);
    if (sum < double(std::numeric_limits<T>::min())) sum = double(std::numeric_limits<T>::min());
    for (int64_t i = 0; i < rows; ++i) share_[i] = static_cast<T>(double(weight[chosen[i]]) / sum);
  }

  // K from its free numbers, J from its own, W = K Jᵀ = -K J.
  void build() {
    const int64_t n = t_.flow.features, whole = t_.flow.hidden * n;
    if (builds_K())
      for (int64_t l = 0; l < stored(); ++l) place(t_.index, whole, part(weight) + l * t_.free, K_ + l * whole);
    if (t_.J_index != nullptr) place(t_.J_index, n * n, part(interconnection), J_);
    for (int64_t l = 0; l < drives(); ++l) {
      T* W = W_ + l * whole;
      std::memset(W, 0, static_cast<size_t>(whole) * sizeof(T));
      add_product(t_.flow.hidden, n, n, K_of(l), n, 1, J_of(l), T(-1), W);
    }
  }

  // out (rows, columns) += factor a b, with a read through strides
  static void add_product(int64_t rows, int64_t columns, int64_t inner, const T* a, int64_t row, int64_t column,
                          const T* b, T factor, T* out) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < inner; ++c) {
        const T left = factor * a[r * row + c * column];
        for (int64_t i = 0; i < columns; ++i) out[r * columns + i] += left * b[c * columns + i];
      }
  }

  static void place(const int64_t* index, int64_t count, const T* free, T* to) {
    for (int64_t i = 0; i < count; ++i)
      to[i] = index[i] > 0 ? free[index[i] - 1] : (index[i] < 0 ? -free[-index[i] - 1] : T(0));
  }
  static void unplace(const int64_t* index, int64_t count, const T* from, T* free) {
    for (int64_t i = 0; i < count; ++i) {
      if (index[i] > 0) free[index[i] - 1] += from[i];
      if (index[i] < 0) free[-index[i] - 1] -= from[i];
    }
  }

  int64_t drives() const {
    if (t_.flow.drive != Spec::matrix) return 0;
    return t_.flow.shared_drive ? 1 : t_.flow.layers;
  }
  int64_t K_place(int64_t layer) const { return (t_.flow.shared ? 0 : layer) * t_.flow.hidden * t_.flow.features; }
  const T* K_of(int64_t layer) const { return (builds_K() ? K_ : part(weight)) + K_place(layer); }
  const T* J_of(int64_t layer) const {
    if (t_.J_index != nullptr) return J_;
    return static_cast<const T*>(t_.J) + (t_.J_layers == 1 ? 0 : layer) * t_.flow.features * t_.flow.features;
  }

  Arrays arrays(int64_t rows) const {
    Arrays a{};
    a.flows = 1, a.rows = rows, a.pixels = 1;
    a.y = y_, a.g = g_, a.out = out_;
    a.y_row = a.g_row = a.out_row = 1;
    a.y_feature = a.g_feature = a.out_feature = lanes_;
    a.weight = builds_K() ? K_ : part(weight);
    a.bias = part(bias);
    a.drive = t_.flow.drive == Spec::matrix ? W_ : nullptr;
    a.kept = kept_size_ > 0 ? kept_ : nullptr;  // of the largest batch: there is room for the others
    return a;
  }

  // The network's outputs, sample by sample.
  void tell(int64_t model, int64_t k, int64_t rows) const {
    if (all_.results == nullptr) return;
    const int64_t o = t_.outputs, first = all_.bounds[k] - all_.bounds[0];
    const int64_t seen = all_.bounds[all_.steps] - all_.bounds[0];
    T* to = static_cast<T*>(all_.results) + (model * seen + first) * o;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < o; ++j) to[i * o + j] = z_[j * lanes_ + i];
  }

  // α_c (‖W‖² + ‖μ‖²) + α (R_K + R_b), and their gradients.
  double regularise() const {
    double sum = 0;
    if (t_.alpha_c > 0)
      for (int which : {head_weight, head_bias})
        sum += t_.alpha_c * step_.shrink(kDoubles, size(which), 2 * t_.alpha_c, part(which), pull(which));
    if (t_.alpha > 0 && stored() > 1) {
      const double half = t_.alpha * t_.flow.step / 2;
      for (int which : {weight, bias}) {
        const double factor = which == weight ? half * t_.repeats : half;
        const int64_t each = size(which) / stored();
        sum += factor * step_.smooth(kDoubles, stored(), each, 2 * factor, part(which), pull(which));
      }
    }
    return sum;
  }

  // From the gradient of the last states back to the parameters.
  void back(int64_t rows, int64_t layout) {
    const int64_t n = t_.flow.features, m = t_.flow.hidden, whole = m * n;
    T* const gK = builds_K() ? gK_ : pull(weight);
    Arrays a = arrays(rows);
    a.out = gy_;
    a.weight_gradient = gK, a.bias_gradient = pull(bias), a.drive_gradient = gW_;
    backward(kDoubles, t_.flow, a, layout, threads_, interrupt_);
    if (t_.J_index != nullptr) std::memset(gJ_, 0, static_cast<size_t>(n * n) * sizeof(T));
    for (int64_t l = 0; l < drives(); ++l) {
      const T* gW = gW_ + l * whole;
      add_product(m, n, n, gW, n, 1, J_of(l), T(1), gK + K_place(l));
      if (t_.J_index != nullptr) add_product(n, n, m, gW, 1, n, K_of(l), T(1), gJ_);
    }
    if (t_.J_index != nullptr) unplace(t_.J_index, n * n, gJ_, pull(interconnection));
    if (builds_K())
      for (int64_t l = 0; l < stored(); ++l) unplace(t_.index, whole, gK_ + l * whole, pull(weight) + l * t_.free);
    if (t_.linear && (learns(t_, lift_weight) || learns(t_, lift_bias)))
      step_.affine_back(kDoubles, {lanes_, n, t_.inputs, part(lift_weight), part(lift_bias), x_}, gy_, nullptr,
                        pull(lift_weight), pull(lift_bias), flat_);
  }

  // One step of the optimizer on the parts that learn.
  void move(int64_t model, int64_t k) {
    const double taken = static_cast<double>(all_.done + k + 1);
    Update update{};
    update.rule = t_.rule;
    update.rate = all_.rates[model * all_.rates_model + k];
    update.decay = t_.decay;
    update.scale = clipping();
    update.first_correction = 1 - std::pow(kBeta1, taken);
    update.second_correction = std::sqrt(1 - std::pow(kBeta2, taken));
    for (int which = 0; which < kParts; ++which) {
      if (!learns(t_, which)) continue;
      const int64_t at = model * start_[kParts] + start_[which];
      update.count = size(which);
      update.parameters = part(which);
      update.gradient = pull(which);
      update.first = static_cast<T*>(all_.first) + at;
      update.second = all_.second == nullptr ? nullptr : static_cast<T*>(all_.second) + at;
      step_.update(kDoubles, update);
      if (all_.gradient == nullptr) continue;
      T* const to = told(model) + start_[which];
      for (int64_t i = 0; i < update.count; ++i) to[i] = pull(which)[i] * T(update.scale);
    }
  }

  double clipping() const {
    if (t_.clip <= 0) return 1;
    double sum = 0;
    for (int which = 0; which < kParts; ++which)
      if (learns(t_, which)) sum += step_.square(kDoubles, size(which), pull(which));
    const double scale = t_.clip / (std::sqrt(sum) + 1e-6);
    return scale > 1 ? 1 : scale;
  }

  struct Free {
    void operator()(T* memory) const { ::operator delete(memory, std::align_val_t{64}); }
  };

  const Training& t_;
  const Trainees& all_;
  const StepKernel& step_;
  const int threads_;
  const Interrupt interrupt_;  // of a deep flow; null beside other networks
  int64_t start_[kParts + 1], most_, lanes_, kept_size_, rows_ = 0;
  std::unique_ptr<T, Free> memory_;
  T* parameters_ = nullptr;
  T *x_, *y_, *out_, *g_, *gy_, *z_, *gz_, *target_, *share_, *losses_, *flat_;  // rows of lanes
  T *gradient_, *K_, *gK_, *W_, *gW_, *J_, *gJ_, *kept_;
};

template <class T> void run(const Training& training, const Trainees& trainees, int threads, Interrupt interrupt) {
  Guard guard(interrupt);
  threads = usable_threads(threads);
  const int side = trainees.models < threads ? static_cast<int>(trainees.models) : threads;
  const int inner = side > 1 ? 1 : threads;
  // Made here: nothing may be thrown across threads.
  std::vector<std::unique_ptr<Worker<T>>> workers;
  for (int k = 0; k < (side > 1 ? side : 1); ++k)
    workers.emplace_back(new Worker<T>(training, trainees, inner, side > 1 ? nullptr : interrupt));
  std::exception_ptr trouble;
#pragma omp parallel for schedule(dynamic) num_threads(side) if (side > 1)
  for (int64_t model = 0; model < trainees.models; ++model) {
    try {
#ifdef _OPENMP
      Worker<T>& mine = *workers[side > 1 ? static_cast<size_t>(omp_get_thread_num()) : 0];
#else
      Worker<T>& mine = *workers[0];
#endif
      mine.run(model, guard);
    } catch (...) {
#pragma omp critical(hdnn_trouble)
      trouble = std::current_exception();
    }
  }
  if (trouble) std::rethrow_exception(trouble);
  if (guard.stopped()) throw Interrupted();
}

}  // namespace

void parts_of(const Training& t, int64_t (&start)[kParts + 1]) {
  const int64_t n = t.flow.features, stored = t.flow.shared ? 1 : t.flow.layers;
  const int64_t sizes[kParts] = {t.linear ? n * t.inputs : 0,
                                 t.linear ? n : 0,
                                 t.index != nullptr ? stored * t.free : weight_size(t.flow),
                                 bias_size(t.flow),
                                 t.J_index != nullptr ? t.J_free : 0,
                                 t.outputs * n,
                                 t.outputs};
  start[0] = 0;
  for (int k = 0; k < kParts; ++k) start[k + 1] = start[k] + sizes[k];
}

void train(bool doubles, const Training& training, const Trainees& trainees, int threads, Interrupt interrupt) {
  if (trainees.models <= 0 || trainees.steps <= 0) return;
  return doubles ? run<double>(training, trainees, threads, interrupt)
                 : run<float>(training, trainees, threads, interrupt);
}

}  // namespace hdnn
