// Training steps, one network after another or side by side: each has an order of batches and memory of its own, so
// that its bits depend neither on its neighbours nor on the number of threads. A batch is cut into chunks by its size
// alone, each chunk has gradients of its own, and they are added in order.
#include "training.hpp"

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "block.hpp"
#include "built.hpp"
#include "guard.hpp"
#include "room.hpp"

namespace hdnn {

extern const StepKernel step_baseline;
#ifdef HDNN_X86
extern const StepKernel step_avx2;
extern const StepKernel step_avx512;
#endif

namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999;
constexpr int64_t kChunks = 16, kChunkBytes = 4 << 20;  // of a batch, and of all their gradients
constexpr int64_t kPixels = 3136, kImages = 64, kNearBytes = 1 << 20;  // of a portion at most
constexpr double kWork = 1e6;  // multiply-adds of a step from which on more threads than one pay

const StepKernel& step_kernel() {
#ifdef HDNN_X86
  for (const StepKernel* kernel : {&step_avx2, &step_avx512})
    if (std::strcmp(kernel->name, instruction_set()) == 0) return *kernel;
#endif
  return step_baseline;
}

int64_t largest_batch(const Trainees& t) {
  int64_t most = 1;
  for (int64_t k = 0; k < t.steps; ++k) {
    const int64_t rows = t.bounds[k + 1] - t.bounds[k];
    most = rows > most ? rows : most;
  }
  return most;
}

// Of images as many as leave a trajectory in the second-level cache.
int64_t largest_portion(bool doubles, const Training& t, const Kernel& kernel) {
  if (t.channels == 0) return kernel.lanes(doubles, t.flow.features, std::numeric_limits<int64_t>::max());
  Job job = Builder{t.flow, Weights{}, doubles ? 8 : 4}.job();
  job.rows = kPixels, job.pixels = 1;
  const int64_t lanes = kernel.lanes(doubles, t.flow.features, kPixels);
  const int64_t left = kernel.trajectory(doubles, job) / lanes * (doubles ? 8 : 4) + 1;  // bytes of a pixel
  const int64_t near = kNearBytes / left, images = (near < kPixels ? near : kPixels) / pixels_of(t);
  return images > kImages ? kImages : (images > 0 ? images : 1);
}

// The steps of one network at a time, on one or several threads.
template <class T> class Learner {
 public:
  Learner(const Call& call, int threads, Room& room)
      : c_(call), t_(call.t), all_(call.all), built_(call.t, call.step, room) {
    const int64_t chunks = chunks_of(c_.most);
    threads_ = chunks < threads ? static_cast<int>(chunks) : threads;
    pulls_ = room.take<T>(chunks * built_.places().size);
    for (int k = 0; k < threads_; ++k) blocks_.emplace_back(c_, room);
  }

  // All steps of one network.
  void run(int64_t model) {
    T* const losses = static_cast<T*>(all_.losses) + model * all_.steps;
    int64_t k = 0;
    begin(model);
    for (; k < all_.steps && all_.failed[model] < 0; ++k) {
      const T loss = objective(k);
      if (c_.guard.stops()) return;
      losses[k] = loss;
      if (!std::isfinite(loss)) {
        all_.failed[model] = all_.done + k;
        continue;
      }
      move(k);
      if (all_.taken != nullptr) all_.taken[model] = k + 1;
    }
    for (; k < all_.steps; ++k) losses[k] = std::numeric_limits<T>::quiet_NaN();
  }

 private:
  static constexpr bool kDoubles = sizeof(T) == 8;

  int64_t stored() const { return t_.flow.shared ? 1 : t_.flow.layers; }
  T* part(int which) const { return parameters_ + c_.start[which]; }
  T* pull(int which) const { return gradient_ + c_.start[which]; }
  int64_t size(int which) const { return c_.start[which + 1] - c_.start[which]; }
  int64_t size() const { return c_.start[kParts]; }

  int64_t blocks_of(int64_t rows) const { return (rows + c_.rows - 1) / c_.rows; }
  int64_t chunks_of(int64_t rows) const {
    const int64_t blocks = blocks_of(rows);
    int64_t chunks = (t_.channels > 0 ? kChunkBytes / 4 : kChunkBytes) / (built_.places().size * int64_t{sizeof(T)} + 1);
    chunks = chunks < 2 ? 2 : (chunks > kChunks ? kChunks : chunks);
    return chunks < blocks ? chunks : blocks;
  }

  void begin(int64_t model) {
    model_ = model;
    parameters_ = static_cast<T*>(all_.parameters) + model * size();
    told_ = all_.gradient == nullptr ? nullptr : static_cast<T*>(all_.gradient) + model * size();
    if (told_ != nullptr) std::memset(told_, 0, static_cast<size_t>(size()) * sizeof(T));
    built_.begin();
    job_ = Builder{t_.flow, built_.weights(parameters_, pulls_), int64_t{sizeof(T)}}.job();
    job_.weights_too = learns(t_, weight) || learns(t_, bias) || learns(t_, damping) || learns(t_, interconnection);
  }

  // The job of a chunk: its gradients lie elsewhere.
  Job job_of(int64_t chunk) const {
    Job job = job_;
    for (int k = 0; k < job.moves; ++k)
      for (Matrix* matrix : {&job.move[k].K, &job.move[k].b, &job.move[k].W})
        matrix->gradient = offset(matrix->gradient, chunk * built_.places().size, sizeof(T));
    job.decay_gradient = offset(job.decay_gradient, chunk * built_.places().size, sizeof(T));
    return job;
  }

  // The objective on a batch, and its gradient where it is finite.
  T objective(int64_t k) {
    const int64_t rows = all_.bounds[k + 1] - all_.bounds[k], chunks = chunks_of(rows);
    built_.build(parameters_);
    if (job_.learned) Builder{t_.flow, built_.weights(parameters_, pulls_), int64_t{sizeof(T)}}.damp(job_);
    std::memset(pulls_, 0, static_cast<size_t>(chunks * built_.places().size) * sizeof(T));
    const double share = share_of(k);
    // Six for each weight, and σ as much as four weights.
    const double work = 6.0 * double(rows * pixels_of(t_) * t_.flow.layers) * double(t_.flow.hidden * (t_.flow.features + 4));
    const int threads = work < kWork ? 1 : (threads_ < chunks ? threads_ : static_cast<int>(chunks));
    if (threads == 1) {
      for (int64_t chunk = 0; chunk < chunks; ++chunk) losses_[chunk] = walk(k, share, chunk, chunks, blocks_[0]);
    } else {
      Queue queue(chunks);
      together(threads, [&](int seat) {
        queue.each([&](int64_t chunk) { losses_[chunk] = walk(k, share, chunk, chunks, blocks_[static_cast<size_t>(seat)]); });
      });
    }
    double loss = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) loss += losses_[chunk];
    if (!std::isfinite(loss) || c_.guard.stopped()) return static_cast<T>(loss);
    for (int64_t chunk = 1; chunk < chunks; ++chunk) {
      const T* more = pulls_ + chunk * built_.places().size;
      for (int64_t i = 0; i < built_.places().size; ++i) pulls_[i] += more[i];
    }
    gradient_ = built_.back(pulls_);
    return static_cast<T>(loss + regularise());
  }

  // What a weight of one counts in the objective.
  double share_of(int64_t k) const {
    if (all_.weight == nullptr) return 1.0 / double(all_.bounds[k + 1] - all_.bounds[k]);
    const T* weight = static_cast<const T*>(all_.weight) + model_ * all_.weight_model;
    const int64_t* order = all_.order + model_ * all_.order_model;
    double sum = 0;
    for (int64_t i = all_.bounds[k]; i < all_.bounds[k + 1]; ++i) sum += double(weight[order[i]]);
    const double least = double(std::numeric_limits<T>::min());
    return 1.0 / (sum < least ? least : sum);
  }

  // The blocks of a chunk, one after the other.
  double walk(int64_t k, double share, int64_t chunk, int64_t chunks, Block<T>& block) const {
    const int64_t first = all_.bounds[k], rows = all_.bounds[k + 1] - first, blocks = blocks_of(rows);
    const int64_t* const chosen = all_.order + model_ * all_.order_model + first;
    const int64_t before = first - all_.bounds[0], seen = all_.bounds[all_.steps] - all_.bounds[0];
    T* const results = all_.results == nullptr
                           ? nullptr
                           : static_cast<T*>(all_.results) + (model_ * seen + before) * t_.outputs;
    const Job job = job_of(chunk);
    double loss = 0;
    for (int64_t b = blocks * chunk / chunks; b < blocks * (chunk + 1) / chunks && !c_.guard.stopped(); ++b) {
      const int64_t at = b * c_.rows, left = rows - at;
      const Portion<T> portion{model_, parameters_, chosen + at, left < c_.rows ? left : c_.rows, share,
                               results == nullptr ? nullptr : results + at * t_.outputs};
      loss += block.run(portion, job, pulls_ + chunk * built_.places().size, built_.places().start);
    }
    return loss;
  }

  // α_c (‖W‖² + ‖μ‖²) + α (R_K + R_b), and their gradients.
  double regularise() const {
    double sum = 0;
    if (t_.alpha_c > 0)
      sum += t_.alpha_c * c_.step.shrink(kDoubles, size(head_weight) + size(head_bias), 2 * t_.alpha_c,
                                         part(head_weight), pull(head_weight));
    if (t_.alpha > 0 && stored() > 1) {
      const double half = t_.alpha * t_.flow.step / 2;
      for (int which : {weight, bias}) {
        const double factor = which == weight ? half * t_.repeats : half;
        const int64_t each = size(which) / stored();
        sum += factor * c_.step.smooth(kDoubles, stored(), each, 2 * factor, part(which), pull(which));
      }
    }
    return sum;
  }

  // One step of the optimizer on the parts that learn, neighbours together.
  void move(int64_t k) {
    const double taken = static_cast<double>(all_.done + k + 1);
    Update update{};
    update.rule = t_.rule;
    update.rate = all_.rates[model_ * all_.rates_model + k];
    update.decay = t_.decay;
    update.scale = clipping();
    update.first_correction = 1 - std::pow(kBeta1, taken);
    update.second_correction = std::sqrt(1 - std::pow(kBeta2, taken));
    for (int from = 0, to; from < kParts; from = to) {
      for (to = from + 1; to < kParts && learns(t_, to) == learns(t_, from);) ++to;
      if (!learns(t_, from)) continue;
      const int64_t at = model_ * size() + c_.start[from];
      update.count = c_.start[to] - c_.start[from];
      update.parameters = part(from);
      update.gradient = pull(from);
      update.first = static_cast<T*>(all_.first) + at;
      update.second = all_.second == nullptr ? nullptr : static_cast<T*>(all_.second) + at;
      c_.step.update(kDoubles, update);
      for (int64_t i = 0; told_ != nullptr && i < update.count; ++i)
        told_[c_.start[from] + i] = pull(from)[i] * T(update.scale);
    }
  }

  double clipping() const {
    if (t_.clip <= 0) return 1;
    double sum = 0;
    for (int which = 0; which < kParts; ++which)
      if (learns(t_, which)) sum += c_.step.square(kDoubles, size(which), pull(which));
    const double scale = t_.clip / (std::sqrt(sum) + 1e-6);
    return scale > 1 ? 1 : scale;
  }

  const Call& c_;
  const Training& t_;
  const Trainees& all_;
  Built<T> built_;
  std::vector<Block<T>> blocks_;  // one for each thread
  int threads_;
  double losses_[kChunks];
  Job job_{};
  int64_t model_ = 0;
  T *pulls_, *parameters_ = nullptr, *gradient_ = nullptr, *told_ = nullptr;
};

template <class T> void run(const Training& training, const Trainees& trainees, int threads, Interrupt interrupt) {
  Guard guard(interrupt);
  Call call{training, trainees, kernel_in_use(), step_kernel(), guard, {}, largest_batch(trainees), 0};
  parts_of(training, call.start);
  call.rows = largest_portion(sizeof(T) == 8, training, call.kernel);
  threads = usable_threads(threads);
  for (int64_t model = 0; model < trainees.models && trainees.taken != nullptr; ++model) trainees.taken[model] = 0;
  const int side = trainees.models < threads ? static_cast<int>(trainees.models) : threads;
  // Made here: nothing may be thrown across threads.
  std::vector<Learner<T>> learners;
  const auto settle = [&](Room& room) {
    learners.clear(), learners.reserve(static_cast<size_t>(side));
    for (int k = 0; k < side; ++k) learners.emplace_back(call, side > 1 ? 1 : threads, room);
  };
  Room needed;
  settle(needed);
  const Memory memory(needed.used());
  Room room(memory.data());
  settle(room);
  if (side == 1) {
    for (int64_t model = 0; model < trainees.models && !guard.stopped(); ++model) learners[0].run(model);
  } else {
    Queue queue(trainees.models);
    together(side, [&](int seat) {
      queue.each([&](int64_t model) {
        if (!guard.stopped()) learners[static_cast<size_t>(seat)].run(model);
      });
      guard.wait(queue);
    });
  }
  if (guard.stopped()) throw Interrupted();
}

}  // namespace

void parts_of(const Training& t, int64_t (&start)[kParts + 1]) {
  const int64_t n = t.flow.features, stored = t.flow.shared ? 1 : t.flow.layers;
  const int64_t sizes[kParts] = {t.linear ? n * seen_of(t) : 0,
                                 t.linear ? n : 0,
                                 t.index != nullptr ? stored * t.free : weight_size(t.flow),
                                 bias_size(t.flow) - t.flow.learned,
                                 t.flow.learned,
                                 t.J_index != nullptr ? t.J_free : 0,
                                 t.outputs * n * pixels_of(t),
                                 t.outputs};
  start[0] = 0;
  for (int k = 0; k < kParts; ++k) start[k + 1] = start[k] + sizes[k];
}

void train(bool doubles, const Training& training, const Trainees& trainees, int threads, Interrupt interrupt) {
  if (trainees.models <= 0 || trainees.steps <= 0) return;
  return doubles ? run<double>(training, trainees, threads, interrupt)
                 : run<float>(training, trainees, threads, interrupt);
}

}  // namespace hdnn
