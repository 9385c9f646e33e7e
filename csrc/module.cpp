// The thin door to Python: pointers, sizes and strides as integers, checked by hdnn/kernels/calls.py.
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "flow.hpp"
#include "training.hpp"

namespace nb = nanobind;

namespace {

hdnn::Spec spec_of(const std::vector<int64_t>& v, double step, double slope) {
  if (v.size() != 17) throw std::invalid_argument("a plan has 17 integers");  // the last three are Python's own
  return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12], v[13], step, slope};
}

template <class P> P pointer(int64_t address) { return reinterpret_cast<P>(static_cast<uintptr_t>(address)); }

// Order of `v`: flows rows pixels | y weight bias drive g | y_flow y_row y_feature | g_flow g_row g_feature |
// weight_flow bias_flow drive_flow | out weight_gradient bias_gradient drive_gradient | out_flow out_row out_feature
hdnn::Arrays arrays_of(const std::vector<int64_t>& v, int64_t kept) {
  if (v.size() != 24) throw std::invalid_argument("a call has 24 integers");
  hdnn::Arrays a{};
  a.flows = v[0], a.rows = v[1], a.pixels = v[2];
  a.y = pointer<const void*>(v[3]), a.weight = pointer<const void*>(v[4]), a.bias = pointer<const void*>(v[5]);
  a.drive = pointer<const void*>(v[6]), a.g = pointer<const void*>(v[7]);
  a.y_flow = v[8], a.y_row = v[9], a.y_feature = v[10];
  a.g_flow = v[11], a.g_row = v[12], a.g_feature = v[13];
  a.weight_flow = v[14], a.bias_flow = v[15], a.drive_flow = v[16];
  a.out = pointer<void*>(v[17]), a.weight_gradient = pointer<void*>(v[18]);
  a.bias_gradient = pointer<void*>(v[19]), a.drive_gradient = pointer<void*>(v[20]);
  a.out_flow = v[21], a.out_row = v[22], a.out_feature = v[23];
  a.kept = pointer<void*>(kept);
  return a;
}

// Order of `v`: linear inputs outputs loss rule trains | index free J_index J_free J J_layers; of `x`: alpha alpha_c
// decay smoothing clip repeats. An address of 0 stands for nothing.
hdnn::Training training_of(const hdnn::Spec& flow, const std::vector<int64_t>& v, const std::vector<double>& x) {
  if (v.size() != 12 || x.size() != 6) throw std::invalid_argument("a training has 12 integers and 6 numbers");
  hdnn::Training t{};
  t.flow = flow;
  t.linear = v[0], t.inputs = v[1], t.outputs = v[2];
  t.loss = static_cast<hdnn::Loss>(v[3]), t.rule = static_cast<hdnn::Rule>(v[4]), t.trains = v[5];
  t.index = pointer<const int64_t*>(v[6]), t.free = v[7];
  t.J_index = pointer<const int64_t*>(v[8]), t.J_free = v[9];
  t.J = pointer<const void*>(v[10]), t.J_layers = v[11];
  t.alpha = x[0], t.alpha_c = x[1], t.decay = x[2], t.smoothing = x[3], t.clip = x[4], t.repeats = x[5];
  return t;
}

// Order of `v`: models steps done | x y weight order bounds rates | x_model y_model weight_model order_model
// rates_model | parameters first second losses results failed
hdnn::Trainees trainees_of(const std::vector<int64_t>& v) {
  if (v.size() != 20) throw std::invalid_argument("a call of training has 20 integers");
  hdnn::Trainees t{};
  t.models = v[0], t.steps = v[1], t.done = v[2];
  t.x = pointer<const void*>(v[3]), t.y = pointer<const void*>(v[4]), t.weight = pointer<const void*>(v[5]);
  t.order = pointer<const int64_t*>(v[6]), t.bounds = pointer<const int64_t*>(v[7]);
  t.rates = pointer<const double*>(v[8]);
  t.x_model = v[9], t.y_model = v[10], t.weight_model = v[11], t.order_model = v[12], t.rates_model = v[13];
  t.parameters = pointer<void*>(v[14]), t.first = pointer<void*>(v[15]), t.second = pointer<void*>(v[16]);
  t.losses = pointer<void*>(v[17]), t.results = pointer<void*>(v[18]), t.failed = pointer<int64_t*>(v[19]);
  return t;
}

// Whether a signal, such as Ctrl-C, wants Python to raise.
bool signalled(void*) {
  nb::gil_scoped_acquire hold;
  return PyErr_CheckSignals() != 0;
}

template <class F> auto without_gil(F&& run) {
  try {
    const nb::gil_scoped_release release;
    return run();
  } catch (const hdnn::Interrupted&) {
    throw nb::python_error();  // what the handler of the signal raised
  }
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("kept", [](bool doubles, const std::vector<int64_t>& plan, int64_t flows, int64_t rows, int64_t pixels) {
    return hdnn::kept(doubles, spec_of(plan, 0, 0), flows, rows, pixels);
  });
  m.def("forward", [](bool doubles, const std::vector<int64_t>& plan, double step, double slope,
                      const std::vector<int64_t>& call, int64_t kept, int threads) {
    const hdnn::Spec spec = spec_of(plan, step, slope);
    const hdnn::Arrays arrays = arrays_of(call, kept);
    return without_gil([&] { return hdnn::forward(doubles, spec, arrays, threads, signalled); });
  });
  m.def("backward", [](bool doubles, const std::vector<int64_t>& plan, double step, double slope,
                       const std::vector<int64_t>& call, int64_t kept, int64_t layout, int threads) {
    const hdnn::Spec spec = spec_of(plan, step, slope);
    const hdnn::Arrays arrays = arrays_of(call, kept);
    without_gil([&] { hdnn::backward(doubles, spec, arrays, layout, threads, signalled); });
  });
  m.def("train", [](bool doubles, const std::vector<int64_t>& plan, double step, double slope,
                    const std::vector<int64_t>& training, const std::vector<double>& numbers,
                    const std::vector<int64_t>& call, int threads) {
    const hdnn::Training t = training_of(spec_of(plan, step, slope), training, numbers);
    const hdnn::Trainees trainees = trainees_of(call);
    without_gil([&] { hdnn::train(doubles, t, trainees, threads, signalled); });
  });
  m.def("instruction_set", &hdnn::instruction_set);
  m.def("choose_instruction_set", &hdnn::choose_instruction_set);
  m.def("has_openmp", &hdnn::has_openmp);
}
