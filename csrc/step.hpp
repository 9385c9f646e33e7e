// What a training step does beside the flow, compiled once for each instruction set.
//
// Samples lie across the lanes, as in a block of the flow: r rows are r times `lanes` numbers.
#pragma once
#include <cstdint>

namespace hdnn {

// The last two are for losses of the caller's own: it asks for the outputs alone, then brings the gradient by them.
enum class Loss : int { squares, binary, classes, none, given };
enum class Rule : int { adam, adamw, sgd };

// A linear map of all samples, u = A x + b, with A (outputs, inputs) row by row.
struct Affine {
  int64_t lanes, outputs, inputs;
  const void *A, *b, *x;
};

// A linear map of whole images, z = A y + b, with A (outputs, features · pixels) row by row. Images lie one after another
// across the lanes of y, and side by side across the columns of z.
struct Whole {
  int64_t images, pixels, features, outputs, lanes, columns;
  const void *A, *b, *y;
};

// Σ share · L of the losses L of the samples, and its gradient by the outputs.
struct Scores {
  Loss loss;
  int64_t lanes, outputs;
  double smoothing;      // share of probability spread evenly over the classes
  const void *z;         // (outputs, lanes)
  const void *target;    // (outputs, lanes) for squares and the gradient given, else (lanes): classes as numbers
  const void *share;     // (lanes), 0 where there is no sample
  void *g;               // (outputs, lanes)
};

// One step of an optimizer; `first` and `second` are its moments, or the momentum and nothing.
struct Update {
  Rule rule;
  int64_t count;
  double rate, decay, scale;  // scale: of the gradient, by clipping
  double first_correction, second_correction;  // 1 - β₁ᵗ, √(1 - β₂ᵗ)
  void *parameters, *first, *second;
  const void *gradient;
};

// out += a b, with out (rows, columns), b (inner, columns), and a (rows, inner) read through strides.
struct Product {
  int64_t rows, columns, inner, row, column;
};

struct StepKernel {
  const char* name;
  void (*affine)(bool doubles, const Affine&, void* u);
  // Adds the gradients of A and b; that of x is written where it is wanted. `flat` has room for x.
  void (*affine_back)(bool doubles, const Affine&, const void* g, void* x, void* A, void* b, void* flat);
  void (*whole)(bool doubles, const Whole&, void* z);
  // As `affine_back`, from the gradient by z.
  void (*whole_back)(bool doubles, const Whole&, const void* g, void* y, void* A, void* b);
  double (*score)(bool doubles, const Scores&);
  void (*product)(bool doubles, const Product&, const void* a, const void* b, void* out);
  // Σ ‖w_j - w_{j-1}‖² over `layers` rows of `size` numbers; its gradient times factor / 2 is added.
  double (*smooth)(bool doubles, int64_t layers, int64_t size, double factor, const void* w, void* gradient);
  // ‖w‖², and factor · w is added to the gradient.
  double (*shrink)(bool doubles, int64_t count, double factor, const void* w, void* gradient);
  double (*square)(bool doubles, int64_t count, const void* w);
  void (*update)(bool doubles, const Update&);
};

}  // namespace hdnn
