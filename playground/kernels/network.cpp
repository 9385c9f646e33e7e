// The door of the page to csrc: a network is made once, then run, walked back through and trained by its handle.
//
// Numbers are floats where a network learns and doubles where it is measured: gradients of deep perceptrons are smaller
// than any float. Measures go layer by layer, so that the state and the gradient after every one can be had.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "../../csrc/built.hpp"
#include "../../csrc/training.hpp"

#define HDNN_PAGE(name) extern "C" __attribute__((export_name(#name), visibility("default")))

namespace hdnn {
extern const StepKernel step_baseline;
}

namespace {

using hdnn::Spec;
using hdnn::Training;

struct Network {
  Training t{};
  std::vector<int64_t> index;
  std::vector<float> J;
  std::vector<double> J_doubles;
};

struct Free {
  void operator()(char* data) const { std::free(data); }
};

// A network with K and W built from its parameters: once, for many runs of some of its layers.
template <class T> class Bound {
 public:
  Bound(const Network& network, const T* parameters) : t_(network.t), spec_(t_.flow) {
    if (kDoubles && !network.J_doubles.empty()) t_.J = network.J_doubles.data();
    hdnn::Room counting;
    const hdnn::Built<T> needed(t_, hdnn::step_baseline, counting);
    memory_.reset(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(counting.used() + 64))));
    hdnn::Room room(memory_.get());
    hdnn::Built<T> built(t_, hdnn::step_baseline, room);
    built.begin();
    built.build(parameters);
    at_ = built.weights(parameters, nullptr);
  }

  void forward(int64_t from, int64_t count, int64_t rows, const T* y, T* out) const {
    hdnn::forward(kDoubles, slice(count), arrays(from, rows, y, out), 1);
  }

  // Where `by` is given, it holds room for the gradients of weights, biases and W.
  void backward(int64_t from, int64_t count, int64_t rows, const T* y, const T* g, T* out, T* const* by = nullptr) const {
    hdnn::Arrays a = arrays(from, rows, y, out);
    a.g = g;
    if (by != nullptr) a.weight_gradient = by[0], a.bias_gradient = by[1], a.drive_gradient = by[2];
    hdnn::backward(kDoubles, slice(count), a, 0, 1);
  }

 private:
  static constexpr bool kDoubles = sizeof(T) == 8;

  Spec slice(int64_t count) const {
    Spec some = spec_;
    some.layers = count;
    return some;
  }

  hdnn::Arrays arrays(int64_t from, int64_t rows, const T* y, T* out) const {
    const int64_t layer = spec_.shared ? 0 : from, stored = spec_.shared || spec_.layers == 0 ? 1 : spec_.layers;
    hdnn::Arrays a{};
    a.flows = 1, a.rows = rows, a.pixels = 1;
    a.y = y, a.out = out;
    a.weight = hdnn::offset(at_.weight, layer * (hdnn::weight_size(spec_) / stored), sizeof(T));
    a.bias = hdnn::offset(at_.bias, layer * spec_.hidden, sizeof(T));
    a.drive = hdnn::offset(at_.drive, (spec_.shared_drive ? 0 : from) * spec_.hidden * spec_.features, sizeof(T));
    a.y_row = a.out_row = a.g_row = spec_.features;
    a.y_feature = a.out_feature = a.g_feature = 1;
    return a;
  }

  Training t_;
  const Spec spec_;
  std::unique_ptr<char, Free> memory_;
  hdnn::Weights at_{};
};

}  // namespace

HDNN_PAGE(room) void* room(int bytes) { return std::aligned_alloc(64, static_cast<size_t>(bytes + 63) / 64 * 64); }
HDNN_PAGE(leave) void leave(void* data) { std::free(data); }

// Words of the numbers: see Spec. `index` places the free numbers of a layer in K (n, n), J (n, n) drives; or null.
HDNN_PAGE(make) Network* make(int method, int first_is_q, int structure, int drive, int activation, int features,
                              int layers, int shared, double step, double damping, const int* index, int free,
                              const double* J) {
  Network* const network = new Network;
  Training& t = network->t;
  Spec& s = t.flow;
  s.method = method, s.first_is_q = first_is_q, s.structure = structure, s.drive = drive, s.activation = activation;
  s.features = s.hidden = features, s.layers = layers, s.shared = shared, s.shared_drive = shared;
  s.step = step, s.damping = damping, s.negative_slope = 0.01;
  s.moves = 2, s.fractions = {1, 1};
  const int64_t square = int64_t{features} * features;
  if (index != nullptr) {
    network->index.assign(index, index + square);
    t.index = network->index.data(), t.free = free;
  }
  if (J != nullptr) {
    network->J.assign(J, J + square), network->J_doubles.assign(J, J + square);
    t.J = network->J.data(), t.J_layers = 1;
  }
  t.inputs = 2, t.outputs = 1, t.loss = hdnn::Loss::binary, t.rule = hdnn::Rule::adam;
  t.repeats = structure == Spec::block_skew || index != nullptr ? 2 : 1;
  t.trains = (1 << hdnn::kParts) - 1;
  return network;
}

HDNN_PAGE(unmake) void unmake(Network* network) { delete network; }

// Where weight, bias, head_weight and head_bias begin among the parameters, and where all end.
HDNN_PAGE(parts) void parts(const Network* network, int* starts) {
  int64_t found[hdnn::kParts + 1];
  hdnn::parts_of(network->t, found);
  const int wanted[5] = {hdnn::weight, hdnn::bias, hdnn::head_weight, hdnn::head_bias, hdnn::kParts};
  for (int k = 0; k < 5; ++k) starts[k] = static_cast<int>(found[wanted[k]]);
}

// y_N of `rows` states, all layers in one run.
HDNN_PAGE(run) void run(const Network* network, const float* parameters, int rows, const float* y, float* out) {
  Bound<float>(*network, parameters).forward(0, network->t.flow.layers, rows, y, out);
}

// Gradients of Σ g · y_N by y_0, and by what the flow reads: K (or its free numbers), b and W.
HDNN_PAGE(run_back) void run_back(const Network* network, const float* parameters, int rows, const float* y,
                                  const float* g, float* by_y, float* by_weight, float* by_bias, float* by_drive) {
  float* const by[3] = {by_weight, by_bias, by_drive};
  Bound<float>(*network, parameters).backward(0, network->t.flow.layers, rows, y, g, by_y, by);
}

// The states after every layer, (layers + 1, rows, n), of which the first is given.
HDNN_PAGE(states) void states(const Network* network, const double* parameters, int rows, double* y) {
  const Bound<double> bound(*network, parameters);
  const int64_t size = rows * network->t.flow.features;
  for (int64_t j = 0; j < network->t.flow.layers; ++j) bound.forward(j, 1, rows, y + j * size, y + (j + 1) * size);
}

// dL/dy_j for every j, (layers + 1, rows, n), of which the last is given; `y` as `states` left it.
HDNN_PAGE(pullback) void pullback(const Network* network, const double* parameters, int rows, const double* y, double* g) {
  const Bound<double> bound(*network, parameters);
  const int64_t size = rows * network->t.flow.features;
  for (int64_t j = network->t.flow.layers - 1; j >= 0; --j)
    bound.backward(j, 1, rows, y + j * size, g + (j + 1) * size, g + j * size);
}

// Steps of Adam, `batch` rows of `order` each, on x (all, 2) with classes; the last batch may be shorter. `gradient` is
// what the last step moved along. Returns the number of the step whose loss was no number, or -1.
HDNN_PAGE(learn) int learn(Network* network, float* parameters, float* first, float* second, int done, const float* x,
                           const int* classes, int all, const int* order, int rows, int batch, const double* rates,
                           double smoothness, double head_decay, float* losses, float* gradient) {
  Training& t = network->t;
  t.alpha = smoothness, t.alpha_c = head_decay;
  const std::vector<int64_t> targets(classes, classes + all), chosen(order, order + rows);
  std::vector<int64_t> bounds;
  for (int64_t at = 0; at < rows; at += batch) bounds.push_back(at);
  bounds.push_back(rows);
  int64_t failed = -1;
  hdnn::Trainees one{};
  one.models = 1, one.steps = static_cast<int64_t>(bounds.size()) - 1, one.done = done;
  one.x = x, one.y = targets.data(), one.order = chosen.data(), one.bounds = bounds.data(), one.rates = rates;
  one.parameters = parameters, one.first = first, one.second = second, one.losses = losses, one.failed = &failed;
  one.gradient = gradient;
  hdnn::train(false, t, one, 1);
  return static_cast<int>(failed);
}
