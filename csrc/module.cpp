// The thin door to Python: records by keyword, with addresses as integers, checked by hdnn/kernels/calls.py.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>

#include <new>
#include <type_traits>

#include "flow.hpp"
#include "graph.hpp"
#include "threads.hpp"
#include "training.hpp"

namespace nb = nanobind;

namespace {

template <class T, class V> struct Field {
  const char* name;
  V T::*place;
};
template <class T, class V> Field(const char*, V T::*) -> Field<T, V>;

// What Python gives for a field: a record, a number, or an integer for enumerations and addresses (0: nothing).
template <class V>
using Given = std::conditional_t<std::is_class_v<V>, const V&,
                                 std::conditional_t<std::is_floating_point_v<V>, double, int64_t>>;

template <class V> V taken(Given<V> value) {
  if constexpr (std::is_pointer_v<V>)
    return reinterpret_cast<V>(static_cast<uintptr_t>(value));
  else
    return static_cast<V>(value);
}

// A record that Python makes by keyword, every field of it: missing and unknown names are a TypeError.
template <class T, class... V> void record(nb::module_& m, const char* name, Field<T, V>... of) {
  nb::class_<T>(m, name).def(
      "__init__",
      [=](T* made, Given<V>... values) {
        new (made) T{};
        ((made->*of.place = taken<V>(values)), ...);
      },
      nb::kw_only(), nb::arg(of.name)...);
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
  using hdnn::Arrays, hdnn::GraphRun, hdnn::Spec, hdnn::Trainees, hdnn::Training;
#define F(type, name) Field{#name, &type::name}
  record(m, "Spec",
         F(Spec, method), F(Spec, first_is_q), F(Spec, structure), F(Spec, drive), F(Spec, activation),
         F(Spec, features), F(Spec, hidden), F(Spec, layers), F(Spec, shared), F(Spec, shared_drive),
         F(Spec, p_units), F(Spec, p_count), F(Spec, q_units), F(Spec, q_count), F(Spec, step),
         F(Spec, negative_slope), F(Spec, moves), F(Spec, fractions), F(Spec, damping), F(Spec, learned),
         F(Spec, driven), F(Spec, states));
  record(m, "Arrays",
         F(Arrays, flows), F(Arrays, rows), F(Arrays, pixels),
         F(Arrays, y), F(Arrays, weight), F(Arrays, bias), F(Arrays, drive), F(Arrays, g),
         F(Arrays, y_flow), F(Arrays, y_row), F(Arrays, y_feature),
         F(Arrays, g_flow), F(Arrays, g_row), F(Arrays, g_feature),
         F(Arrays, weight_flow), F(Arrays, bias_flow), F(Arrays, drive_flow),
         F(Arrays, out), F(Arrays, weight_gradient), F(Arrays, bias_gradient), F(Arrays, drive_gradient),
         F(Arrays, bias_layer), F(Arrays, bias_row), F(Arrays, bias_unit), F(Arrays, g_layer),
         F(Arrays, states), F(Arrays, states_flow),
         F(Arrays, out_flow), F(Arrays, out_layer), F(Arrays, out_row), F(Arrays, out_feature), F(Arrays, kept));
  record(m, "Training",
         F(Training, flow), F(Training, linear), F(Training, inputs), F(Training, outputs),
         F(Training, channels), F(Training, height), F(Training, width), F(Training, loss),
         F(Training, rule), F(Training, alpha), F(Training, alpha_c), F(Training, decay), F(Training, smoothing),
         F(Training, clip), F(Training, repeats), F(Training, trains), F(Training, index), F(Training, free),
         F(Training, J_index), F(Training, J_free), F(Training, J), F(Training, J_layers));
  record(m, "Trainees",
         F(Trainees, models), F(Trainees, steps), F(Trainees, done),
         F(Trainees, x), F(Trainees, y), F(Trainees, weight), F(Trainees, order), F(Trainees, bounds),
         F(Trainees, rates), F(Trainees, x_model), F(Trainees, y_model), F(Trainees, weight_model),
         F(Trainees, order_model), F(Trainees, rates_model), F(Trainees, parameters), F(Trainees, first),
         F(Trainees, second), F(Trainees, losses), F(Trainees, results), F(Trainees, failed),
         F(Trainees, gradient), F(Trainees, taken));
  record(m, "GraphRun",
         F(GraphRun, flow), F(GraphRun, nodes), F(GraphRun, samples),
         F(GraphRun, there_first), F(GraphRun, there_start), F(GraphRun, there_weight),
         F(GraphRun, back_first), F(GraphRun, back_start), F(GraphRun, back_weight),
         F(GraphRun, y), F(GraphRun, weight), F(GraphRun, bias), F(GraphRun, drive), F(GraphRun, g),
         F(GraphRun, out), F(GraphRun, weight_gradient), F(GraphRun, bias_gradient), F(GraphRun, drive_gradient),
         F(GraphRun, kept));
#undef F
  m.def("kept", &hdnn::kept);
  m.def("forward", [](bool doubles, const Spec& spec, const Arrays& arrays, int threads) {
    return without_gil([&] { return hdnn::forward(doubles, spec, arrays, threads, signalled); });
  });
  m.def("backward", [](bool doubles, const Spec& spec, const Arrays& arrays, int64_t layout, int threads) {
    without_gil([&] { hdnn::backward(doubles, spec, arrays, layout, threads, signalled); });
  });
  m.def("train", [](bool doubles, const Training& training, const Trainees& trainees, int threads) {
    without_gil([&] { hdnn::train(doubles, training, trainees, threads, signalled); });
  });
  m.def("graph_kept", &hdnn::graph_kept);
  m.def("graph_forward", [](bool doubles, const GraphRun& run, int threads) {
    without_gil([&] { hdnn::graph_forward(doubles, run, threads, signalled); });
  });
  m.def("graph_backward", [](bool doubles, const GraphRun& run, int threads) {
    without_gil([&] { hdnn::graph_backward(doubles, run, threads, signalled); });
  });
  m.attr("interface") = 8;  // as hdnn/kernels/calls.py counts what it passes and expects; raise both together
  m.def("instruction_set", &hdnn::instruction_set);
  m.def("choose_instruction_set", &hdnn::choose_instruction_set);
  m.def("share_threads", [](intptr_t entry) { hdnn::openmp() = reinterpret_cast<hdnn::Parallel>(entry); });
}
