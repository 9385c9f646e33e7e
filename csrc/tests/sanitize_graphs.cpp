// Flows on random graphs, forward and backward, to be built with the address and undefined-behaviour sanitizers:
// `make sanitize`. As in sanitize.cpp arrays have their exact sizes, what is unwritten is NaN, and gradients are compared
// with difference quotients.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "../graph.hpp"
#include "drawn.hpp"
#include "heap.hpp"

namespace {

using hdnn::GraphRun;
using hdnn::Spec;

// Edges by where they end, and the same from where they start.
template <class T> struct Sorted {
  std::vector<int32_t> first, start;
  std::vector<T> weight;
  Sorted(int64_t nodes, const std::vector<int64_t>& from, const std::vector<int64_t>& to, const std::vector<T>& w) {
    first.push_back(0);
    for (int64_t node = 0; node < nodes; ++node) {
      for (size_t k = 0; k < to.size(); ++k)
        if (to[k] == node) start.push_back(static_cast<int32_t>(from[k])), weight.push_back(w[k]);
      first.push_back(static_cast<int32_t>(start.size()));
    }
    first.shrink_to_fit(), start.shrink_to_fit(), weight.shrink_to_fit();
  }
};

template <class T> void check(Spec spec, int64_t nodes, int64_t samples, int64_t edges, bool weighted, int threads) {
  constexpr bool doubles = sizeof(T) == 8;
  const int64_t states = samples * nodes * spec.features, stored = spec.shared ? 1 : spec.layers;
  const int64_t of_K = 2 * stored * spec.hidden * spec.features, of_b = stored * spec.hidden;
  const int64_t of_W = spec.drive == Spec::matrix ? of_K : 0;
  std::vector<int64_t> from, to;
  for (int64_t k = 0; k < edges; ++k) from.push_back(drawn(nodes)), to.push_back(drawn(nodes));
  const std::vector<T> w = normal<T>(edges, 0.5);
  const Sorted<T> there(nodes, from, to, w), back(nodes, to, from, w);
  // Wide flows of large K are so steep that quotients of differences are none of their derivatives.
  const double scale = std::sqrt(0.5 / double(spec.features));
  std::vector<T> numbers[4] = {normal<T>(states, 1), normal<T>(of_K, scale), normal<T>(of_b, 0.5),
                               normal<T>(of_W, scale)};
  const std::vector<T> g = normal<T>(states, 1);
  std::vector<T> out = unwritten<T>(states), gradients[4];
  for (int k = 0; k < 4; ++k) gradients[k] = unwritten<T>(static_cast<int64_t>(numbers[k].size()));

  GraphRun run{};
  run.flow = spec, run.nodes = nodes, run.samples = samples;
  run.there_first = there.first.data(), run.there_start = there.start.data();
  run.back_first = back.first.data(), run.back_start = back.start.data();
  if (weighted) run.there_weight = there.weight.data(), run.back_weight = back.weight.data();
  run.y = numbers[0].data(), run.weight = numbers[1].data(), run.bias = numbers[2].data();
  run.drive = of_W ? numbers[3].data() : nullptr;
  const auto value = [&] {
    run.out = out.data(), run.kept = nullptr;
    hdnn::graph_forward(doubles, run, threads);
    double sum = 0;
    for (int64_t i = 0; i < states; ++i) sum += double(out[size_t(i)]) * double(g[size_t(i)]);
    return sum;
  };
  value();
  const std::vector<T> without = out;
  std::vector<T> kept = unwritten<T>(hdnn::graph_kept(doubles, run) + 16);  // of which the first is aligned
  run.kept = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(kept.data()) + 63) / 64 * 64);
  hdnn::graph_forward(doubles, run, threads);
  bool good = out == without;
  run.g = g.data(), run.out = gradients[0].data(), run.weight_gradient = gradients[1].data();
  run.bias_gradient = gradients[2].data(), run.drive_gradient = of_W ? gradients[3].data() : nullptr;
  hdnn::graph_backward(doubles, run, threads);
  const double h = doubles ? 1e-5 : 1e-2, tolerance = doubles ? 1e-6 : 3e-2;
  for (int k = 0; k < 4; ++k) {
    if (numbers[k].empty()) continue;
    const std::vector<T> at = numbers[k], way = normal<T>(static_cast<int64_t>(at.size()), 1);
    double expected = 0, size = 0, ends[2];
    for (size_t i = 0; i < at.size(); ++i) {
      expected += double(gradients[k][i]) * double(way[i]);
      size += std::fabs(double(gradients[k][i]));
    }
    for (int side = 0; side < 2; ++side) {
      for (size_t i = 0; i < at.size(); ++i) numbers[k][i] = at[i] + T(side ? h : -h) * way[i];
      ends[side] = value();
    }
    numbers[k] = at;
    good = good && std::fabs((ends[1] - ends[0]) / (2 * h) - expected) <= tolerance * (1 + size);
  }
  ++runs;
  if (!good && ++failures < 20)
    std::printf("WRONG: %s, method %d, drive %d, n %d, nodes %d, samples %d, edges %d\n", hdnn::instruction_set(),
                int(spec.method), int(spec.drive), int(spec.features), int(nodes), int(samples), int(edges));
}

template <class T> void all() {
  for (const int64_t method : {Spec::euler, Spec::partitioned})
    for (const int64_t drive : {Spec::identity, Spec::canonical, Spec::matrix})
      for (const int64_t activation : {3, 5})  // tanh, softplus
        for (const int64_t features : {2, 6, 34}) {
          Spec spec{};
          spec.method = method, spec.drive = drive, spec.activation = activation;
          spec.features = features, spec.hidden = features, spec.layers = 3, spec.step = 0.2;
          spec.shared = drawn(2), spec.shared_drive = spec.shared;
          if (method == Spec::partitioned) {
            spec.moves = 3, spec.fractions = {0.5, 1, 0.5}, spec.damping = 0.1;
            spec.p_units = 0, spec.q_units = spec.p_count = spec.q_count = features / 2;
          }
          for (const int64_t nodes : {1, 7, 130})
            for (const int64_t samples : {1, 5})
              check<T>(spec, nodes, samples, drawn(3 * nodes), drawn(2) != 0, 1 + int(drawn(2)));
        }
}

}  // namespace

int main() {
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    if (hdnn::choose_instruction_set(name) == nullptr) continue;
    all<float>();
    all<double>();
  }
  std::printf("%ld runs on graphs, %ld wrong\n", runs, failures);
  return failures != 0;
}
