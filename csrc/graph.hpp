// Flows on graphs: u = K₀ y + K₁ A y + b at every node, with A y the sums over the edges that end there.
#pragma once
#include <cstdint>

#include "flow.hpp"
#include "job.hpp"

namespace hdnn {

// Edges sorted by where they end: those of node i are first[i] … first[i + 1] − 1.
struct Edges {
  int64_t nodes;         // V
  const int32_t* first;  // (V + 1)
  const int32_t* start;  // where each begins
  const void* weight;    // of each; null: 1
};

// Samples that share one graph. States are (samples, V, n), K and W (S, m, n, 2) in full, all without gaps.
struct GraphRun {
  Spec flow;
  int64_t nodes, samples;
  const int32_t *there_first, *there_start;
  const void* there_weight;
  const int32_t *back_first, *back_start;  // the same edges the other way round
  const void* back_weight;
  const void *y, *weight, *bias, *drive, *g;
  void *out, *weight_gradient, *bias_gradient, *drive_gradient;
  void* kept;  // room for `graph_kept` numbers, which `forward` leaves for `backward`; null: none follows
};

int64_t graph_kept(bool doubles, const GraphRun&);
// As `forward` and `backward` of flow.hpp; the way back needs what was kept, by the same instruction set.
void graph_forward(bool doubles, const GraphRun&, int threads, Interrupt interrupt = nullptr);
void graph_backward(bool doubles, const GraphRun&, int threads, Interrupt interrupt = nullptr);

// One instruction set's entry points, for some samples: `rows` of the job are all of their nodes.
struct GraphKernel {
  const char* name;
  int64_t (*scratch)(bool doubles, const Job& job);     // bytes
  int64_t (*trajectory)(bool doubles, const Job& job);  // numbers that all layers leave behind
  void (*forward)(bool doubles, const Job& job, const Edges& there, const Edges& back, void* scratch);
  void (*backward)(bool doubles, const Job& job, const Edges& there, const Edges& back, void* scratch);
};

}  // namespace hdnn
