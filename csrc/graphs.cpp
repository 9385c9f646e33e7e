// Runs of flows on graphs: samples become blocks that threads share.
//
// Gradients are summed in chunks of blocks whose number depends on sizes alone, and the chunks in order: the same inputs
// give the same bits at any number of threads.
#include <cstring>
#include <memory>
#include <vector>

#include "builder.hpp"
#include "graph.hpp"
#include "room.hpp"
#include "team.hpp"

namespace hdnn {

extern const GraphKernel graph_baseline;
#ifdef HDNN_X86
extern const GraphKernel graph_avx2;
extern const GraphKernel graph_avx512;
#endif

namespace {

constexpr int64_t kTaps = 2, kChunks = 16;
constexpr int64_t kRows = 256;  // nodes that a block has at least, where there are as many

const GraphKernel& kernel_now() {
#ifdef HDNN_X86
  for (const GraphKernel* kernel : {&graph_avx2, &graph_avx512})
    if (std::strcmp(kernel->name, instruction_set()) == 0) return *kernel;
#endif
  return graph_baseline;
}

// Samples in blocks of a few, so that small graphs fill the lanes.
struct Blocks {
  explicit Blocks(const GraphRun& run)
      : most(run.nodes < kRows ? kRows / run.nodes : 1), count((run.samples + most - 1) / most), samples(run.samples) {}
  int64_t first(int64_t block) const { return block * most; }
  int64_t size(int64_t block) const { return first(block) + most < samples ? most : samples - first(block); }
  const int64_t most, count, samples;
};

// Of a block of so many samples.
Job job_of(const GraphRun& run, const Weights& at, int64_t size, int64_t samples) {
  Builder builder{run.flow, at, size};
  builder.taps = kTaps;
  Job job = builder.job();
  job.rows = samples * run.nodes;
  job.pixels = 1;
  return job;
}

// Numbers that a block keeps, the last one at most.
int64_t kept_of_block(bool doubles, const GraphRun& run) {
  return kernel_now().trajectory(doubles, job_of(run, Weights{}, doubles ? 8 : 4, Blocks(run).most));
}

// What a thread does of one block.
template <class Run> void each(bool doubles, const GraphRun& run, Team& team, const Weights& at, int64_t block,
                               bool weights_too, std::unique_ptr<Memory>& scratch, Run&& go) {
  const Blocks blocks(run);
  const int64_t size = doubles ? 8 : 4, start = blocks.first(block) * run.nodes * run.flow.features;
  if (!scratch) {
    const Job most = job_of(run, at, size, blocks.most);
    scratch.reset(new Memory(kernel_now().scratch(doubles, most)));
  }
  Job job = job_of(run, at, size, blocks.size(block));
  job.y = offset(run.y, start, size);
  job.g = offset(run.g, start, size);
  job.out = offset(run.out, start, size);
  job.kept = offset(run.kept, block * kept_of_block(doubles, run), size);
  job.weights_too = weights_too;
  team.give_to(job);
  go(doubles, job, Edges{run.nodes, run.there_first, run.there_start, run.there_weight},
     Edges{run.nodes, run.back_first, run.back_start, run.back_weight}, scratch->data());
}

template <class T> void add(void* to, const void* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) static_cast<T*>(to)[i] += static_cast<const T*>(from)[i];
}

}  // namespace

int64_t graph_kept(bool doubles, const GraphRun& run) { return Blocks(run).count * kept_of_block(doubles, run); }

void graph_forward(bool doubles, const GraphRun& run, int threads, Interrupt interrupt) {
  const Weights at{run.weight, run.bias, run.drive, nullptr, nullptr, nullptr};
  const int64_t blocks = Blocks(run).count;
  threads = usable_threads(threads);
  Team team(interrupt, blocks);
  together(threads < blocks ? threads : static_cast<int>(blocks), [&](int) {
    std::unique_ptr<Memory> scratch;
    team.work([&](int64_t block) { each(doubles, run, team, at, block, false, scratch, kernel_now().forward); });
  });
  team.raise();
}

void graph_backward(bool doubles, const GraphRun& run, int threads, Interrupt interrupt) {
  const int64_t size = doubles ? 8 : 4, blocks = Blocks(run).count;
  const bool weights_too = run.weight_gradient != nullptr;
  const int64_t sizes[3] = {kTaps * weight_size(run.flow), bias_size(run.flow), kTaps * drive_size(run.flow)};
  const int64_t numbers = weights_too ? sizes[0] + sizes[1] + sizes[2] : 0;
  const int64_t chunks = blocks < kChunks ? blocks : kChunks;
  std::vector<char> partial(static_cast<size_t>(chunks * numbers * size), 0);
  threads = usable_threads(threads);
  Team team(interrupt, chunks);
  together(threads < chunks ? threads : static_cast<int>(chunks), [&](int) {
    std::unique_ptr<Memory> scratch;
    team.work([&](int64_t chunk) {
      char* mine = partial.data() + chunk * numbers * size;
      const Weights at{run.weight, run.bias, run.drive,
                       mine, mine + sizes[0] * size, mine + (sizes[0] + sizes[1]) * size};
      for (int64_t block = blocks * chunk / chunks; block < blocks * (chunk + 1) / chunks; ++block)
        each(doubles, run, team, at, block, weights_too, scratch, kernel_now().backward);
    });
  });
  team.raise();
  if (!weights_too) return;
  void* const outputs[3] = {run.weight_gradient, run.bias_gradient, run.drive_gradient};
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const char* from = partial.data() + chunk * numbers * size;
    for (int k = 0; k < 3; from += sizes[k++] * size) {
      if (sizes[k] == 0) continue;
      if (chunk == 0)
        std::memcpy(outputs[k], from, static_cast<size_t>(sizes[k] * size));
      else if (doubles)
        add<double>(outputs[k], from, sizes[k]);
      else
        add<float>(outputs[k], from, sizes[k]);
    }
  }
}

}  // namespace hdnn
