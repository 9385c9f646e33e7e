// What a kernel is asked to run: plain values and pointers, shared by all instruction sets.
//
// A layer is one or more moves. A move reads some features of the state (the source), computes hidden values
// s = σ(K y_src + b), and moves other features (the destination): y_dst += h D s. For forward Euler source and
// destination are the whole state; in a partitioned layer the halves move in turn, each by the other, and each move has
// an h of its own. Stages of Runge and Kutta are moves of copies of the state.
#pragma once
#include <cstdint>

namespace hdnn {

constexpr int kMostMoves = 16;
constexpr int kStages = 4;

enum class Activation : int { identity, relu, leaky_relu, tanh, sigmoid, softplus };

// How D reaches a range of the destination: D[i, r] = sign * A[r, column + i], with A = K or A = W = K Jᵀ.
struct Range {
  int64_t start;   // first destination feature, counted from the start of the state
  int64_t count;   // how many
  int64_t column;  // first column of A
  double sign;
};

// A matrix for each layer, read and written through strides; `sign` multiplies every entry.
struct Matrix {
  const void* data;
  void* gradient;
  int64_t layer, row, column;  // strides in numbers; layer = 0 where layers share it
  double sign;
};

struct Move {
  double step;                    // h
  int64_t hidden;                 // m
  int64_t unit;                   // the first of its hidden values among those of the layer
  int64_t source, source_count;   // features that are read
  Matrix K;
  Matrix b;                       // row stride only
  bool identity;                  // D = I: y_dst += h s
  bool own;                       // A = K, else A = W
  bool replaces;                  // y_dst = h D s, as in a plain perceptron; D = I
  Matrix W;
  int ranges;
  Range range[2];
};

// Numbers of every sample in every layer, through strides.
struct Layered {
  const void* data;  // or null
  int64_t layer, row, column;
};

// Samples of one flow. Vectors: `rows` samples of one pixel. Images: `rows` images of `pixels` pixels.
struct Job {
  int64_t features, hidden, layers, rows, pixels;
  int64_t row_stride, feature_stride;  // of y and of the arrays that share its layout, in numbers
  int64_t out_row_stride, out_feature_stride;
  int64_t g_row_stride, g_feature_stride;
  double negative_slope;
  double decay;                        // by which the first half of the state is multiplied before every layer, or 1
  bool learned;                        // whether decay = exp(−g² h) has a gradient by g
  double decay_slope;                  // then d log decay / dg
  void* decay_gradient;                // and where the gradient by g is added
  Activation activation;
  bool stages;            // the moves are the stages of Runge and Kutta
  int moves;
  Move move[kMostMoves];
  const void* y;          // input states
  void* out;              // forward: output states; backward: gradient of the input states
  const void* g;          // backward: gradient of the output states
  Layered driven;         // what stands in the place of b, one number a hidden value
  Layered states;         // backward: those after each layer, as forward has left them
  void* driven_gradient;  // (layers, rows, hidden)
  int64_t out_layer, g_layer;  // strides where the states after all layers are the output; 0 where the last alone is
  void* kept;             // the trajectory of all blocks, left by forward for backward; null: backward recomputes it
  bool weights_too;       // backward: whether gradients of weights, biases and W are wanted
  bool (*stopped)(void* team);  // asked now and then: whether to leave the rest undone
  void* team;
};

// One instruction set's entry points. `first` and `last` count blocks of `lanes` samples.
struct Kernel {
  const char* name;
  int64_t (*lanes)(bool doubles, int64_t features, int64_t samples);
  int64_t (*scratch)(bool doubles, const Job& job, bool backward);  // bytes a thread needs; fewer where job.kept is
  int64_t (*trajectory)(bool doubles, const Job& job);              // numbers that a block leaves behind, all layers
  void (*forward)(bool doubles, const Job& job, int64_t first, int64_t last, void* scratch);
  void (*backward)(bool doubles, const Job& job, int64_t first, int64_t last, void* scratch);
};

}  // namespace hdnn
