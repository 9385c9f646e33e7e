// Training steps over many networks and recipes, to be built with the address and undefined-behaviour sanitizers: `make
// sanitize`. Every array has its exact size on the heap. The first step of SGD moves along the gradient, which is
// compared with difference quotients of the objective, so that the run means something. No Python inside.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "../training.hpp"
#include "drawn.hpp"
#include "heap.hpp"

namespace {

using hdnn::Loss;
using hdnn::Rule;
using hdnn::Spec;
using hdnn::Training;

// Numbers of a flow: dense or masked K, J canonical, constant, learned, or none.
template <class T> struct Problem {
  Training t{};
  std::vector<int64_t> index, J_index, order, bounds, classes, failed, taken;
  std::vector<T> J, x, y, share, parameters, first, second, losses, results, gradient;
  std::vector<double> rates;
  int64_t models, rows, size;
  bool weighted;

  Problem(bool halves, int drive, int64_t batches) {
    const int64_t n = 2 * (1 + drawn(4)), layers = drawn(4) == 0 ? 0 : 1 + drawn(5);
    Spec& f = t.flow;
    f.method = halves ? Spec::partitioned : drawn(3) == 0 ? Spec::runge_kutta : Spec::euler;
    f.learned = halves && drawn(2);
    f.moves = 2, f.fractions = {1, 1};
    f.features = n, f.hidden = n, f.layers = layers, f.shared = drawn(4) == 0 && layers > 0, f.activation = 3 + drawn(3);
    f.structure = Spec::full, f.drive = drive == 3 ? Spec::matrix : static_cast<Spec::Drive>(drive);
    f.shared_drive = f.drive == Spec::matrix && f.shared;
    f.step = 0.3, f.negative_slope = 0.1, f.first_is_q = drawn(2);
    const bool crossed = drive == Spec::identity;  // then unit i drives feature i, and reads the other half
    if (halves) f.p_count = f.q_count = n / 2, f.p_units = crossed ? 0 : n / 2, f.q_units = crossed ? n / 2 : 0;
    if (halves || drawn(2)) {  // K keeps what halves may have, or every other entry
      index.assign(static_cast<size_t>(n * n), 0);
      for (int64_t r = 0; r < n; ++r)
        for (int64_t c = 0; c < n; ++c)
          if (halves ? ((r < n / 2) == (c < n / 2)) != crossed : (r + c) % 2 == 0) index[static_cast<size_t>(r * n + c)] = ++t.free;
      t.index = index.data();
    }
    if (drive == 3) {
      J_index.assign(static_cast<size_t>(n * n), 0);
      for (int64_t r = 0; r < n; ++r)
        for (int64_t c = r + 1; c < n; ++c)
          if (!halves || (r < n / 2) != (c < n / 2)) {
            J_index[static_cast<size_t>(r * n + c)] = ++t.J_free;
            J_index[static_cast<size_t>(c * n + r)] = -t.J_free;
          }
      t.J_index = J_index.data(), t.J_layers = 1;
    } else if (f.drive == Spec::matrix) {
      t.J_layers = f.shared ? 1 : (drawn(2) ? layers : 1);
      J.assign(static_cast<size_t>(std::max<int64_t>(1, t.J_layers) * n * n), T(0));
      for (size_t k = 0; k < J.size(); k += static_cast<size_t>(n * n))
        for (int64_t r = 0; r < n / 2; ++r)
          J[k + static_cast<size_t>(r * n + r + n / 2)] = T(1.5), J[k + static_cast<size_t>((r + n / 2) * n + r)] = T(-1.5);
      t.J = J.data();
    }
    t.loss = static_cast<Loss>(drawn(batches == 1 ? 3 : 5)), t.rule = Rule::sgd;
    t.linear = drawn(2), t.inputs = t.linear ? 1 + drawn(9) : 1 + drawn(n), t.outputs = t.loss == Loss::binary ? 1 : 2 + drawn(4);
    if (drawn(3) == 0) {
      t.linear = 1, t.channels = 1 + drawn(3), t.height = 1 + drawn(6), t.width = 1 + drawn(20);
      t.inputs = t.channels * t.height * t.width;
    }
    t.alpha = drawn(2) * 0.3, t.alpha_c = drawn(2) * 0.2, t.decay = 0, t.clip = 0, t.repeats = 1;
    t.smoothing = t.loss == Loss::squares ? 0 : drawn(2) * 0.1, t.trains = (1 << hdnn::kParts) - 1;
    models = 1 + drawn(3), rows = 1 + drawn(70), weighted = drawn(2) == 0;
    int64_t start[hdnn::kParts + 1];
    hdnn::parts_of(t, start);
    size = start[hdnn::kParts];
    parameters = normal<T>(models * size, 0.4);
    first.assign(parameters.size(), T(0)), second.assign(parameters.size(), T(0));
    x = normal<T>(models * rows * t.inputs, 1), y = normal<T>(models * rows * t.outputs, 1);
    for (int64_t i = 0; i < models * rows; ++i) classes.push_back(drawn(t.loss == Loss::binary ? 2 : t.outputs));
    share = normal<T>(models * rows, 1);
    for (T& w : share) w = std::abs(w);
    bounds.push_back(0);
    for (int64_t k = 0; k < batches; ++k) bounds.push_back(bounds.back() + 1 + drawn(rows));
    for (int64_t i = 0; i < models * bounds.back(); ++i) order.push_back(drawn(rows));
    failed.assign(static_cast<size_t>(models), -1), taken.assign(static_cast<size_t>(models), -1);
  }

  void train(double rate, int threads) {
    const int64_t steps = static_cast<int64_t>(bounds.size()) - 1;
    rates.assign(static_cast<size_t>(steps), rate);
    losses.assign(static_cast<size_t>(models * steps), std::numeric_limits<T>::quiet_NaN());
    results.assign(static_cast<size_t>(models * bounds.back() * t.outputs), std::numeric_limits<T>::quiet_NaN());
    hdnn::Trainees a{};
    a.models = models, a.steps = steps;
    a.x = x.data(), a.weight = weighted ? share.data() : nullptr;
    const bool of_outputs = t.loss == Loss::squares || t.loss == Loss::given;
    a.y = of_outputs ? static_cast<const void*>(y.data()) : t.loss == Loss::none ? nullptr : classes.data();
    a.order = order.data(), a.bounds = bounds.data(), a.rates = rates.data();
    a.x_model = rows * t.inputs, a.weight_model = rows, a.order_model = bounds.back();
    a.y_model = of_outputs ? rows * t.outputs : rows;
    a.parameters = parameters.data(), a.first = first.data(), a.second = t.rule == Rule::sgd ? nullptr : second.data();
    a.losses = losses.data(), a.results = results.data(), a.failed = failed.data();
    gradient.assign(parameters.size(), std::numeric_limits<T>::quiet_NaN());
    a.gradient = gradient.data(), a.taken = taken.data();
    hdnn::train(sizeof(T) == 8, t, a, threads);
  }

  // Σ of the objectives of all networks on their first batch.
  double objective(const std::vector<T>& at, int threads) {
    parameters = at;
    first.assign(parameters.size(), T(0));
    train(0, threads);
    double sum = 0;
    const size_t steps = bounds.size() - 1;
    for (int64_t e = 0; e < models; ++e) sum += double(losses[static_cast<size_t>(e) * steps]);
    return sum;
  }
};

void report(const char* what, const Training& t, size_t bytes, double off) {
  ++failures;
  std::printf("%s %s %zu bytes, method %d drive %d n %d N %d loss %d linear %d: %g\n", hdnn::instruction_set(), what, bytes,
              int(t.flow.method), int(t.flow.drive), int(t.flow.features), int(t.flow.layers), int(t.loss), int(t.linear), off);
}

template <class T> void slopes(bool halves, int drive, int threads) {
  Problem<T> problem(halves, drive, 1);
  const std::vector<T> start = problem.parameters;
  problem.train(1e-3, threads);  // from no momentum: θ - rate g
  std::vector<double> g(start.size());
  double square = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    g[i] = double(problem.first[i]);
    square += g[i] * g[i];
  }
  if (problem.gradient != problem.first) report("told", problem.t, sizeof(T), 0);
  if (problem.taken != std::vector<int64_t>(problem.taken.size(), 1)) report("taken", problem.t, sizeof(T), 0);
  const double epsilon = (sizeof(T) == 8 ? 1e-6 : 3e-3) / std::sqrt(square + 1e-12);
  const auto shifted = [&](double by) {
    std::vector<T> at = start;
    for (size_t i = 0; i < at.size(); ++i) at[i] = T(double(at[i]) + by * g[i]);
    return problem.objective(at, threads);
  };
  const double measured = (shifted(epsilon) - shifted(-epsilon)) / (2 * epsilon);
  const double off = std::abs(measured - square) / (square + 1e-6);
  ++runs;
  if (!(off < (sizeof(T) == 8 ? 1e-5 : 5e-2))) report("slope", problem.t, sizeof(T), off);
}

// Many steps of an optimizer, with decay and clipping: numbers stay numbers, and threads change no bit.
template <class T> void steps(bool halves, int drive, Rule rule) {
  Problem<T> one(halves, drive, 5);
  one.t.rule = rule, one.t.decay = 0.1, one.t.clip = 0.5;
  if (drawn(3) == 0) one.t.trains = drawn(1 << hdnn::kParts);
  Problem<T> other = one;
  if (other.t.index != nullptr) other.t.index = other.index.data();
  if (other.t.J_index != nullptr) other.t.J_index = other.J_index.data();
  if (other.t.J != nullptr) other.t.J = other.J.data();
  one.train(0.01, 1), other.train(0.01, 2);
  ++runs;
  double sum = 0;
  for (const T value : one.parameters) sum += double(value);
  if (!std::isfinite(sum)) report("numbers", one.t, sizeof(T), sum);
  if (std::memcmp(one.parameters.data(), other.parameters.data(), one.parameters.size() * sizeof(T)) != 0)
    report("threads", one.t, sizeof(T), 0);
}

void sweep() {
  for (int turn = 0; turn < 60; ++turn)
    for (const bool halves : {false, true})
      for (int drive = 0; drive < 4; ++drive) {
        slopes<double>(halves, drive, 1 + turn % 2), slopes<float>(halves, drive, 1);
        for (const Rule rule : {Rule::adam, Rule::adamw, Rule::sgd})
          turn % 2 ? steps<double>(halves, drive, rule) : steps<float>(halves, drive, rule);
      }
}

}  // namespace

int main() {
  const std::string best = hdnn::instruction_set();
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    if (hdnn::choose_instruction_set(name) == nullptr) continue;
    sweep();
    std::printf("%s: %ld trainings so far, %ld failures\n", name, runs, failures);
  }
  hdnn::choose_instruction_set(best.c_str());
  return failures == 0 ? 0 : 1;
}
