// Training: any number of steps of one or many networks in one call. A step is
//
//     batch → lift → flow → W y + μ → loss → gradients → regularisers → clipping → optimizer.
//
// It knows no Python: memory comes from the caller, and what a training remembers between calls is in its arrays.
#pragma once
#include <cstdint>

#include "flow.hpp"
#include "images.hpp"
#include "step.hpp"

namespace hdnn {

// The parameters of a network are one block of numbers, part after part in this order.
enum Part { lift_weight, lift_bias, weight, bias, damping, interconnection, head_weight, head_bias, kParts };

struct Training {
  Spec flow;
  int64_t linear;           // whether the lift is a linear map; else zeros are appended
  int64_t inputs, outputs;  // of a sample, and of the network
  int64_t channels, height, width;  // of images, which a 3 x 3 convolution lifts, `linear`; 0: samples are vectors
  Loss loss;
  Rule rule;
  double alpha, alpha_c, decay, smoothing;
  double clip;              // largest norm of the gradient, or 0
  double repeats;           // how many entries of K each free number fills
  int64_t trains;           // one bit a part: whether it learns
  // Where the free numbers of a layer stand in K: 0, or ± their place counted from 1; (m, n). Null where the flow
  // reads the weights as they are.
  const int64_t* index;
  int64_t free;             // free numbers of a layer
  // The same for a learned J, (n, n); else J is constant, (1 or N, n, n), read where the drive is a matrix.
  const int64_t* J_index;
  int64_t J_free;
  const void* J;
  int64_t J_layers;
};

// Arrays of `models` networks; a stride of 0 shares an array between them. Strides count numbers.
struct Trainees {
  int64_t models, steps, done;  // done: steps before this call, for the optimizer
  const void *x, *y, *weight;   // (rows, inputs); (rows, outputs) or classes int64 (rows); (rows) or null
  const int64_t *order, *bounds;  // step t takes the rows order[bounds[t]] ... order[bounds[t + 1] - 1]
  const double* rates;          // (steps)
  int64_t x_model, y_model, weight_model, order_model, rates_model;
  void *parameters, *first, *second;  // (models, size), second null for SGD
  void* losses;                 // (models, steps): the objective on the batch, before the step
  void* results;                // (models, rows of all batches, outputs): the network's outputs; or null
  int64_t* failed;              // (models): the step that met an objective that is no number, or -1
  void* gradient;               // (models, size): what the last step taken in this call moved along; or null
  int64_t* taken;               // (models): steps taken in this call; or null
};

// Samples of the flow in a row of data, and numbers that the lift reads for each.
inline int64_t pixels_of(const Training& t) { return t.channels > 0 ? t.height * t.width : 1; }
inline int64_t seen_of(const Training& t) { return t.channels > 0 ? t.channels * kTaps : t.inputs; }

inline bool learns(const Training& t, int part) { return (t.trains >> part) & 1; }

// Where each part begins in the parameters of a network; the last number is the size of all.
void parts_of(const Training&, int64_t (&start)[kParts + 1]);

// A network that failed keeps its weights from before that step, and its later losses are no numbers. `gradient` is of
// the data and the regularisers, clipped, without the decay of the optimizer; zeros for parts that do not learn, and
// where no step was taken.
//
// Throws `Interrupted` as a run of a flow does. Every network has then taken a whole number of steps, `taken`: its
// parameters and moments are those of a call that ends there, and so are its first losses and results.
void train(bool doubles, const Training&, const Trainees&, int threads, Interrupt interrupt = nullptr);

}  // namespace hdnn
