// A fused run of one or many flows: what Python calls.
#pragma once
#include <array>
#include <cstdint>
#include <exception>

#include "job.hpp"

namespace hdnn {

// Plain values of a plan. `full` weights are (S, m, n); the others are the free numbers of their structure.
struct Spec {
  // perceptron: y⁺ = h σ(K y + b); runge_kutta: the classical method of order 4
  enum Method { euler, partitioned, perceptron, runge_kutta };
  enum Structure { full, block_diagonal, off_diagonal, block_skew };
  enum Drive { identity, canonical, matrix };
  int64_t method, first_is_q, structure, drive, activation;
  int64_t features, hidden, layers;
  int64_t shared, shared_drive;                 // one K and b, one W for all layers
  int64_t p_units, p_count, q_units, q_count;   // full K, partitioned: the units that drive p, and q
  double step, negative_slope;
  int64_t moves;  // partitioned: how many a layer has, the halves in turn, and what part of the step each takes
  std::array<double, kMostMoves> fractions;
  int64_t driven;   // inputs drive every layer and sample: the bias is (N, rows, m)
  int64_t states;   // the output is (N, rows, n), the states after all layers
  double damping;  // partitioned: γ h, p ← exp(−γ h) p before the moves of every layer
  int64_t learned;  // whether γ = g² is learned instead: g is one number more, after all biases
};

// Arrays of `flows` flows; a flow stride of 0 shares an array between flows. Strides count numbers.
struct Arrays {
  int64_t flows, rows, pixels;
  const void *y, *weight, *bias, *drive, *g;
  int64_t y_flow, y_row, y_feature, g_flow, g_row, g_feature;
  int64_t weight_flow, bias_flow, drive_flow;
  int64_t bias_layer, bias_row, bias_unit;  // where inputs drive it; its gradient lies without gaps
  int64_t g_layer;
  const void* states;                       // backward: the output of forward, without gaps; or null
  int64_t states_flow;
  void *out, *weight_gradient, *bias_gradient, *drive_gradient;
  int64_t out_flow, out_layer, out_row, out_feature;
  void* kept;  // room for `kept` numbers, or null
};

// Numbers of a trajectory that forward should keep for backward; 0 where recomputing it is cheaper than its memory.
int64_t kept(bool doubles, const Spec&, int64_t flows, int64_t rows, int64_t pixels);

// Numbers in the weights, biases and W of one flow.
int64_t weight_size(const Spec&);
int64_t bias_size(const Spec&);
int64_t drive_size(const Spec&);

// Thrown where `interrupt` said to stop: outputs are then unfinished.
struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

// Asked by the calling thread about every tenth of a second of a long run, whether to stop.
using Interrupt = bool (*)(void*);

// Both throw `Interrupted`, or std::bad_alloc where there is no memory for scratch.
//
// Returns the layout of what it kept, which depends on the instruction set.
int64_t forward(bool doubles, const Spec&, const Arrays&, int threads, Interrupt interrupt = nullptr);
// Writes the gradients of y (to `out`) and, where there is room for them, of weights, biases and W, each with one block
// per flow. What was kept in another layout is recomputed.
void backward(bool doubles, const Spec&, const Arrays&, int64_t layout, int threads, Interrupt interrupt = nullptr);

// The instruction set in use, and a way to choose another that this processor has; nullptr if it has not.
const char* instruction_set();
const char* choose_instruction_set(const char* name);
// As many threads as wanted and processors, or one in a forked child.
int usable_threads(int wanted);

}  // namespace hdnn
