// Runs of flows: samples become chunks that threads share.
//
// The number of chunks depends on sizes alone, each chunk has gradients of its own, and they are added in order:
// the same inputs give the same bits at any number of threads.
#include "flow.hpp"

#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "builder.hpp"
#include "job.hpp"
#include "team.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <unistd.h>
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif
#ifdef HDNN_X86
#include <cpuid.h>
#endif

namespace hdnn {

extern const Kernel kernel_baseline;
#ifdef HDNN_X86
extern const Kernel kernel_avx2;
extern const Kernel kernel_avx512;
#endif

namespace {

// Bytes of the second-level cache of a core; 1 MiB where the system does not tell.
int64_t second_cache() {
  int64_t bytes = 0;
#if defined(__APPLE__)
  size_t size = sizeof bytes;
  if (sysctlbyname("hw.l2cachesize", &bytes, &size, nullptr, 0) != 0) bytes = 0;
#elif defined(_SC_LEVEL2_CACHE_SIZE)
  bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
  return bytes > 0 ? bytes : 1 << 20;
}

constexpr int64_t kPartialBytes = 4 << 20;  // of all chunks' gradients together
constexpr int64_t kChunks = 16;
// Bytes of a trajectory that is kept. Of few features it must fit what a core has for itself: recomputing costs a
// fourth, and takes the same time alone and beside others, who share all memory beyond. Wider states cost more to
// recompute and are kept for longer. No bit of a result depends on it.
int64_t most_kept(int64_t features) {
  static const int64_t own = second_cache();
  constexpr int64_t shared = 8 << 20;
  return features >= 32 ? 2 * shared : features >= 16 || own > shared ? shared : own;
}

#ifdef HDNN_X86
// Asked of the processor itself: __builtin_cpu_supports needs a library that not all compilers bring, and says no then.
const Kernel* widest() {
  unsigned a, b, c, d, leaf[4];
  constexpr unsigned saved = 1u << 27, fma = 1u << 12;  // by the system, when it changes tasks
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & saved) || !(c & fma)) return &kernel_baseline;
  unsigned states, high;
  __asm__ volatile("xgetbv" : "=a"(states), "=d"(high) : "c"(0));
  constexpr unsigned of_avx = 0x06, of_avx512 = 0xe6;
  if ((states & of_avx) != of_avx) return &kernel_baseline;
  if (!__get_cpuid_count(7, 0, &leaf[0], &leaf[1], &leaf[2], &leaf[3])) return &kernel_baseline;
  constexpr unsigned avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // f, dq, bw, vl
  if ((states & of_avx512) == of_avx512 && (leaf[1] & avx512) == avx512) return &kernel_avx512;
  return leaf[1] & avx2 ? &kernel_avx2 : &kernel_baseline;
}
#endif

const Kernel* best() {
#ifdef HDNN_X86
  return widest();
#else
  return &kernel_baseline;
#endif
}

std::atomic<const Kernel*>& chosen() {
  static std::atomic<const Kernel*> kernel{best()};
  return kernel;
}

std::atomic<bool> in_forked_child{false};

// OpenMP's threads do not survive a fork: a child that asks for two would wait for ever. Watched from loading on,
// because PyTorch may have started them before a flow first ran.
#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int watching = pthread_atfork(nullptr, nullptr, [] { in_forked_child = true; });
#endif

// More threads than processors only cost, and a system may refuse them, which ends the process.
int usable(int threads, int64_t tasks = INT64_MAX) {
  if (threads <= 1 || in_forked_child) return 1;  // counting processors asks the system
  const int most = processors();
  if (threads > most) threads = most;
  if (threads > tasks) threads = static_cast<int>(tasks);
  return threads > 1 ? threads : 1;
}

struct Scratch {
  explicit Scratch(int64_t bytes) : memory(::operator new(static_cast<size_t>(bytes > 0 ? bytes : 1), align)) {}
  ~Scratch() { ::operator delete(memory, align); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  static constexpr std::align_val_t align{64};
  void* memory;
};

// Where there are no layers there is no weight, but the number of a learned damping.
bool wants_weights(const Spec& spec, const Arrays& a) {
  return a.weight_gradient != nullptr || (spec.learned && a.bias_gradient != nullptr);
}

Job job_of(const Spec& spec, const Arrays& a, const Weights& at, int64_t flow, int64_t size, int64_t kept) {
  Job job = Builder{spec, at, size}.job();
  job.rows = a.rows;
  job.pixels = a.pixels;
  job.y = offset(a.y, flow * a.y_flow, size);
  job.row_stride = a.y_row;
  job.feature_stride = a.y_feature;
  job.g = offset(a.g, flow * a.g_flow, size);
  job.g_row_stride = a.g_row;
  job.g_feature_stride = a.g_feature;
  job.out = offset(a.out, flow * a.out_flow, size);
  job.out_row_stride = a.out_row;
  job.out_feature_stride = a.out_feature;
  job.kept = offset(a.kept, flow * kept, size);
  if (spec.states) job.out_layer = a.out_layer, job.g_layer = a.g_layer;
  if (spec.states) job.states = {offset(a.states, flow * a.states_flow, size), a.rows * spec.features, spec.features, 1};
  if (spec.driven) {
    job.driven = {offset(a.bias, flow * a.bias_flow, size), a.bias_layer, a.bias_row, a.bias_unit};
    job.driven_gradient = offset(a.bias_gradient, flow * spec.layers * a.rows * spec.hidden, size);
  }
  job.weights_too = wants_weights(spec, a);
  return job;
}

int64_t blocks_of(const Kernel& kernel, bool doubles, const Spec& spec, int64_t samples) {
  const int64_t lanes = kernel.lanes(doubles, spec.features, samples);
  return (samples + lanes - 1) / lanes;
}

// Numbers that one flow keeps of its samples.
int64_t kept_of_flow(const Kernel& kernel, bool doubles, const Spec& spec, int64_t rows, int64_t pixels) {
  const Weights none{};
  Job job = Builder{spec, none, 1}.job();
  job.rows = rows;
  job.pixels = pixels;
  return blocks_of(kernel, doubles, spec, rows * pixels) * kernel.trajectory(doubles, job);
}

template <class T> void add(T* to, const T* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

const Kernel& kernel_in_use() { return *chosen().load(); }

int usable_threads(int wanted) { return usable(wanted); }

int64_t weight_size(const Spec& s) {
  const int64_t half = s.features / 2, stored = s.shared ? 1 : s.layers;
  switch (s.structure) {
    case Spec::block_diagonal:
    case Spec::off_diagonal: return stored * s.hidden * half;
    case Spec::block_skew: return stored * half * half;
    default: return stored * s.hidden * s.features;
  }
}
int64_t bias_size(const Spec& s) { return s.driven ? 0 : (s.shared ? 1 : s.layers) * s.hidden + s.learned; }
int64_t drive_size(const Spec& s) {
  return s.drive == Spec::matrix ? (s.shared_drive ? 1 : s.layers) * s.hidden * s.features : 0;
}

int64_t kept(bool doubles, const Spec& spec, int64_t flows, int64_t rows, int64_t pixels) {
  const Kernel& kernel = kernel_in_use();
  const int64_t numbers = flows * kept_of_flow(kernel, doubles, spec, rows, pixels);
  return numbers * (doubles ? 8 : 4) <= most_kept(spec.features) ? numbers : 0;
}

int64_t forward(bool doubles, const Spec& spec, const Arrays& a, int threads, Interrupt interrupt) {
  const Kernel& kernel = kernel_in_use();
  const int64_t size = doubles ? 8 : 4;
  const int64_t blocks = blocks_of(kernel, doubles, spec, a.rows * a.pixels);
  const int64_t kept = kept_of_flow(kernel, doubles, spec, a.rows, a.pixels);
  const int64_t chunks = blocks < 4 * kChunks ? blocks : 4 * kChunks, tasks = a.flows * chunks;
  threads = usable(threads, tasks);
  Team team(interrupt, tasks);
  together(threads, [&](int) {
    std::unique_ptr<Scratch> scratch;
    team.work([&](int64_t task) {
      const int64_t flow = task / chunks, chunk = task % chunks;
      const Weights at{offset(a.weight, flow * a.weight_flow, size), offset(a.bias, flow * a.bias_flow, size),
                       offset(a.drive, flow * a.drive_flow, size), nullptr, nullptr, nullptr};
      Job job = job_of(spec, a, at, flow, size, kept);
      team.give_to(job);
      if (!scratch) scratch.reset(new Scratch(kernel.scratch(doubles, job, false)));
      kernel.forward(doubles, job, blocks * chunk / chunks, blocks * (chunk + 1) / chunks, scratch->memory);
    });
  });
  team.raise();
  return reinterpret_cast<intptr_t>(&kernel);
}

void backward(bool doubles, const Spec& spec, const Arrays& given, int64_t layout, int threads, Interrupt interrupt) {
  const Kernel& kernel = kernel_in_use();
  Arrays a = given;
  if (layout != reinterpret_cast<intptr_t>(&kernel)) a.kept = nullptr;
  const int64_t size = doubles ? 8 : 4;
  const int64_t blocks = blocks_of(kernel, doubles, spec, a.rows * a.pixels);
  const int64_t kept = kept_of_flow(kernel, doubles, spec, a.rows, a.pixels);
  const bool weights_too = wants_weights(spec, a);
  const int64_t sizes[3] = {weights_too ? weight_size(spec) : 0, weights_too ? bias_size(spec) : 0,
                            weights_too ? drive_size(spec) : 0};
  const int64_t numbers = sizes[0] + sizes[1] + sizes[2];
  int64_t chunks = kPartialBytes / (numbers * size * (a.flows > 0 ? a.flows : 1) + 1);
  chunks = chunks < 2 ? 2 : (chunks > kChunks ? kChunks : chunks);
  if (chunks > blocks) chunks = blocks > 0 ? blocks : 1;
  const int64_t tasks = a.flows * chunks;
  threads = usable(threads, tasks);
  Team team(interrupt, tasks);
  std::vector<char> partial(static_cast<size_t>(tasks * numbers * size), 0);
  together(threads, [&](int) {
    std::unique_ptr<Scratch> scratch;
    team.work([&](int64_t task) {
      const int64_t flow = task / chunks, chunk = task % chunks;
      char* mine = partial.data() + task * numbers * size;
      const Weights at{offset(a.weight, flow * a.weight_flow, size), offset(a.bias, flow * a.bias_flow, size),
                       offset(a.drive, flow * a.drive_flow, size), mine, mine + sizes[0] * size,
                       mine + (sizes[0] + sizes[1]) * size};
      Job job = job_of(spec, a, at, flow, size, kept);
      team.give_to(job);
      if (!scratch) scratch.reset(new Scratch(kernel.scratch(doubles, job, true)));
      kernel.backward(doubles, job, blocks * chunk / chunks, blocks * (chunk + 1) / chunks, scratch->memory);
    });
  });
  team.raise();
  void* const outputs[3] = {a.weight_gradient, a.bias_gradient, a.drive_gradient};
  for (int64_t flow = 0; flow < a.flows; ++flow) {
    const char* from = partial.data() + flow * chunks * numbers * size;
    int64_t start = 0;
    for (int k = 0; k < 3; ++k) {
      void* to = offset(outputs[k], flow * sizes[k], size);
      for (int64_t chunk = 0; chunk < chunks && sizes[k] > 0; ++chunk) {
        const void* piece = from + (chunk * numbers + start) * size;
        if (chunk == 0)
          std::memcpy(to, piece, static_cast<size_t>(sizes[k] * size));
        else if (doubles)
          add(static_cast<double*>(to), static_cast<const double*>(piece), sizes[k]);
        else
          add(static_cast<float*>(to), static_cast<const float*>(piece), sizes[k]);
      }
      start += sizes[k];
    }
  }
}

const char* instruction_set() { return chosen().load()->name; }

const char* choose_instruction_set(const char* name) {
  const Kernel* const known[] = {
      &kernel_baseline,
#ifdef HDNN_X86
      &kernel_avx2, &kernel_avx512,
#endif
  };
  const Kernel* const most = best();
  for (const Kernel* kernel : known) {
    if (std::strcmp(kernel->name, name) == 0) {
      chosen() = kernel;
      return kernel->name;
    }
    if (kernel == most) break;  // the list ascends: what follows this processor does not have
  }
  return nullptr;
}

}  // namespace hdnn
