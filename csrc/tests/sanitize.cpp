// Forward and backward over many plans, sizes and layouts, to be built with the address and undefined-behaviour
// sanitizers: `make sanitize`. Every array has its exact size on the heap, so that one number too far is caught;
// scratch and outputs start as NaN, so that reading them unwritten is caught; and gradients are compared with
// difference quotients, so that the run means something. No Python inside.
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

#include "../flow.hpp"
#include "drawn.hpp"
#include "heap.hpp"

namespace {

using hdnn::Arrays;
using hdnn::Spec;

// Samples of F flows: rows of states, or of images; `loose` leaves gaps between samples, features and flows.
struct Shape {
  int64_t flows, rows, pixels;
  bool loose;
};

struct Layout {
  int64_t flow, row, feature, size;
  Layout(const Shape& s, int64_t n, bool loose) {
    const bool image = s.pixels != 1;
    feature = image ? s.pixels + (loose ? 3 : 0) : (loose ? 2 : 1);
    row = feature * n + (loose ? 5 : 0);
    flow = row * s.rows + (loose ? 7 : 0);
    size = s.flows * flow;
  }
};

template <class T> struct Problem {
  Spec spec;
  Shape shape;
  Layout in{shape, spec.features, shape.loose}, out{shape, spec.features, false};
  std::vector<T> y = normal<T>(in.size, 1), g = normal<T>(in.size, 1);
  std::vector<T> weight = normal<T>(shape.flows * hdnn::weight_size(spec), 0.5);
  std::vector<T> bias = normal<T>(shape.flows * hdnn::bias_size(spec), 0.5);
  std::vector<T> drive = normal<T>(shape.flows * hdnn::drive_size(spec), 0.5);

  Arrays arrays() {
    Arrays a{};
    a.flows = shape.flows, a.rows = shape.rows, a.pixels = shape.pixels;
    a.y = y.data(), a.weight = weight.data(), a.bias = bias.data(), a.drive = drive.data(), a.g = g.data();
    a.y_flow = a.g_flow = in.flow, a.y_row = a.g_row = in.row, a.y_feature = a.g_feature = in.feature;
    a.weight_flow = hdnn::weight_size(spec), a.bias_flow = hdnn::bias_size(spec), a.drive_flow = hdnn::drive_size(spec);
    a.out_flow = out.flow, a.out_row = out.row, a.out_feature = out.feature;
    return a;
  }

  template <class F> void samples(F&& visit) const {
    for (int64_t f = 0; f < shape.flows; ++f)
      for (int64_t r = 0; r < shape.rows; ++r)
        for (int64_t i = 0; i < spec.features; ++i)
          for (int64_t p = 0; p < shape.pixels; ++p)
            visit(static_cast<size_t>(f * in.flow + r * in.row + i * in.feature + p),
                  static_cast<size_t>(f * out.flow + r * out.row + i * out.feature + p));
  }

  // ⟨g, flow(y)⟩
  double loss(int threads) {
    std::vector<T> result = unwritten<T>(out.size);
    Arrays a = arrays();
    a.out = result.data();
    hdnn::forward(sizeof(T) == 8, spec, a, threads);
    double sum = 0;
    samples([&](size_t there, size_t here) { sum += double(g[there]) * double(result[here]); });
    return sum;
  }

  // Whether a kept trajectory gives the same gradients, and the state's is the same without those of the weights.
  bool same_either_way(Arrays a, const std::vector<T>& to_y, const std::vector<T>& to_weight, int threads) {
    const int64_t numbers = hdnn::kept(sizeof(T) == 8, spec, shape.flows, shape.rows, shape.pixels);
    std::vector<T> trajectory = unwritten<T>(numbers), out = unwritten<T>(int64_t(to_y.size()));
    std::vector<T> weights = unwritten<T>(int64_t(to_weight.size()));
    const auto same = [](const std::vector<T>& x, const std::vector<T>& y) {
      return x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0;
    };
    a.kept = numbers > 0 ? trajectory.data() : nullptr;
    a.out = out.data();
    const int64_t layout = hdnn::forward(sizeof(T) == 8, spec, a, threads);
    a.weight_gradient = weights.data();
    hdnn::backward(sizeof(T) == 8, spec, a, layout, threads);
    if (!same(out, to_y) || !same(weights, to_weight)) return false;
    a.weight_gradient = a.bias_gradient = a.drive_gradient = nullptr;
    hdnn::backward(sizeof(T) == 8, spec, a, 0, threads);
    return same(out, to_y);
  }

  // How much the loss changes with all inputs along a random direction, by gradients less by differences.
  double disagreement(int threads) {
    std::vector<T> to_y = unwritten<T>(out.size), to_weight = unwritten<T>(int64_t(weight.size())),
                   to_bias = unwritten<T>(int64_t(bias.size())), to_drive = unwritten<T>(int64_t(drive.size()));
    Arrays a = arrays();
    a.out = to_y.data(), a.weight_gradient = to_weight.data();
    a.bias_gradient = to_bias.data(), a.drive_gradient = to_drive.data();
    hdnn::backward(sizeof(T) == 8, spec, a, 0, threads);
    if (!same_either_way(a, to_y, to_weight, threads)) return 1;

    const Problem before = *this;
    const std::vector<T> dy = normal<T>(in.size, 1), dw = normal<T>(int64_t(weight.size()), 1),
                         db = normal<T>(int64_t(bias.size()), 1), dd = normal<T>(int64_t(drive.size()), 1);
    double expected = 0, size = 1e-9;
    const auto term = [&](double slope, double direction) { expected += slope * direction, size += std::abs(slope * direction); };
    samples([&](size_t there, size_t here) { term(double(to_y[here]), double(dy[there])); });
    for (size_t i = 0; i < dw.size(); ++i) term(double(to_weight[i]), double(dw[i]));
    for (size_t i = 0; i < db.size(); ++i) term(double(to_bias[i]), double(db[i]));
    for (size_t i = 0; i < dd.size(); ++i) term(double(to_drive[i]), double(dd[i]));
    const double epsilon = sizeof(T) == 8 ? 1e-6 : 2e-3;
    const auto shifted = [&](double by) {
      const auto shift = [by](std::vector<T>& x, const std::vector<T>& start, const std::vector<T>& d) {
        for (size_t i = 0; i < x.size(); ++i) x[i] = T(double(start[i]) + by * double(d[i]));
      };
      shift(y, before.y, dy), shift(weight, before.weight, dw), shift(bias, before.bias, db), shift(drive, before.drive, dd);
      return loss(threads);
    };
    const double measured = (shifted(epsilon) - shifted(-epsilon)) / (2 * epsilon);
    shifted(0);
    return std::abs(measured - expected) / size;
  }
};

template <class T> void check(const Spec& spec, const Shape& shape, int threads) {
  Problem<T> problem{spec, shape};
  const double off = problem.disagreement(threads);
  ++runs;
  // A difference across a kink is no derivative, and a softplus of states of 1e7, to which unstable steps grow, is bent
  // as sharply for most of them.
  const double room = spec.activation == 1 || spec.activation == 2 ? 10000 : spec.activation == 5 ? 10 : 1;
  if (off < (sizeof(T) == 4 ? 3e-2 : 1e-6) * room && off < 0.2) return;  // NaN fails too
  ++failures;
  std::printf("%s %zu bytes, method %d learned %d first_is_q %d structure %d drive %d activation %d, n %d m %d N %d shared %d/%d, "
              "flows %d rows %d pixels %d loose %d, threads %d: %g\n",
              hdnn::instruction_set(), sizeof(T), int(spec.method), int(spec.learned), int(spec.first_is_q), int(spec.structure),
              int(spec.drive), int(spec.activation), int(spec.features), int(spec.hidden), int(spec.layers),
              int(spec.shared), int(spec.shared_drive), int(shape.flows), int(shape.rows), int(shape.pixels),
              shape.loose, threads, off);
}

// All plans of one size.
std::vector<Spec> plans(int64_t n, int64_t layers) {
  std::vector<Spec> all;
  const int64_t half = n / 2;
  for (int64_t activation = 0; activation < 6; ++activation)
    for (int64_t shared = 0; shared < 2; ++shared) {
      Spec base{};
      base.features = base.hidden = n, base.layers = layers, base.shared = shared, base.activation = activation;
      base.step = 0.3 / std::sqrt(double(layers + 1)), base.negative_slope = 0.1;
      const auto add = [&](Spec::Method method, Spec::Structure structure, Spec::Drive drive, int64_t hidden) {
        Spec spec = base;
        spec.method = method, spec.structure = structure, spec.drive = drive, spec.hidden = hidden;
        if (method != Spec::partitioned) return all.push_back(spec);
        const std::vector<double> moves[] = {{1, 1}, {0.5, 1, 0.5}, {0.7, 1.3, -0.4, -0.3, 0.7}};
        const auto& fractions = moves[all.size() / 2 % 3];
        spec.moves = int64_t(fractions.size());
        std::copy(fractions.begin(), fractions.end(), spec.fractions.begin());
        const int64_t turn = int64_t(all.size()) / 2 % 4;
        spec.damping = turn == 1 ? 0.2 : 0, spec.learned = turn > 1;
        if (structure == Spec::full) spec.p_count = spec.q_units = (hidden + 1) / 2, spec.q_count = hidden - spec.p_count;
        for (spec.first_is_q = 0; spec.first_is_q < 2; ++spec.first_is_q) all.push_back(spec);
      };
      for (const auto whole : {Spec::euler, Spec::runge_kutta}) add(whole, Spec::full, Spec::identity, n);
      base.shared_drive = shared;
      for (const auto whole : {Spec::euler, Spec::runge_kutta})
        for (int64_t hidden : {n, n + 3, int64_t{1}}) add(whole, Spec::full, Spec::matrix, hidden);
      base.shared_drive = 0;
      if (n % 2) continue;
      for (int64_t hidden : {n, n + 3}) {
        for (const auto whole : {Spec::euler, Spec::runge_kutta}) add(whole, Spec::full, Spec::canonical, hidden);
        add(Spec::partitioned, Spec::full, Spec::canonical, hidden);
        add(Spec::partitioned, Spec::full, Spec::matrix, hidden);
      }
      add(Spec::partitioned, Spec::full, Spec::identity, n);
      for (int64_t hidden : {n, n + 2}) add(Spec::partitioned, Spec::block_diagonal, Spec::canonical, hidden);
      add(Spec::partitioned, Spec::off_diagonal, Spec::canonical, n);
      add(Spec::partitioned, Spec::block_skew, Spec::identity, n);
      add(Spec::partitioned, Spec::block_skew, Spec::canonical, 2 * half);
    }
  return all;
}

void sweep() {
  const Shape shapes[] = {{1, 0, 1, false}, {1, 1, 1, false},  {1, 63, 1, false}, {1, 65, 1, true},
                          {2, 130, 1, true}, {1, 3, 35, false}, {2, 2, 67, true},  {1, 2, 0, false}};
  size_t turn = 0;
  for (int64_t layers : {0, 1, 3})
    for (int64_t n : {1, 2, 3, 4, 6, 9, 16, 18})
      for (const Spec& spec : plans(n, layers)) {
        const Shape& shape = shapes[turn++ % 8];
        if (turn % 3 == 0) continue;  // a third less to do; which third differs from size to size
        if (turn % 5 < 3)
          check<double>(spec, shape, 1 + int(turn % 2));
        else
          check<float>(spec, shape, 1 + int(turn % 2));
      }
  // Depths of several segments, and sizes beyond the small ones.
  for (auto [n, layers] : {std::pair<int64_t, int64_t>{4, 1100}, {130, 70}, {33, 9}, {48, 3}, {64, 2}})
    for (const Spec& spec : plans(n, layers))
      if (turn++ % 23 == 0) check<double>(spec, shapes[3], 1);
}

}  // namespace

int main() {
  const std::string best = hdnn::instruction_set();
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    if (hdnn::choose_instruction_set(name) == nullptr) continue;
    sweep();
    std::printf("%s: %ld runs so far, %ld failures\n", name, runs, failures);
  }
  hdnn::choose_instruction_set(best.c_str());
  return failures == 0 ? 0 : 1;
}
