// A block of samples through the whole network and back, on one thread: what it writes stays in the cache of a core.
#pragma once
#include <cstdint>
#include <cstring>

#include "builder.hpp"
#include "guard.hpp"
#include "room.hpp"
#include "step.hpp"
#include "training.hpp"

namespace hdnn {

// What all threads of a call read.
struct Call {
  const Training& t;
  const Trainees& all;
  const Kernel& kernel;
  const StepKernel& step;
  Guard& guard;
  int64_t start[kParts + 1], most, rows;  // rows of the largest batch, and of the largest portion
};

// How the samples of a portion lie: those of the flow across `lanes`, in blocks; outputs and targets across `columns`.
struct Extent {
  int64_t blocks, lanes, columns;
};

// Some rows of a batch, and what is common to them.
template <class T> struct Portion {
  int64_t model;
  const T* parameters;
  const int64_t* chosen;  // places in the data
  int64_t count;
  double share;           // of one sample in the objective, before its weight
  T* results;             // (count, outputs), or null
};

template <class T> class Block {
 public:
  Block(const Call& call, Room& room) : c_(call), t_(call.t) {
    const int64_t n = t_.flow.features, d = seen_of(t_), o = t_.outputs;
    const auto [blocks, lanes, columns] = extent(c_.rows);
    x_ = room.take<T>(t_.linear ? d * lanes : 0);
    y_ = room.take<T>(n * lanes), out_ = room.take<T>(n * lanes), g_ = room.take<T>(n * lanes);
    z_ = room.take<T>(o * columns), gz_ = room.take<T>(o * columns);
    target_ = room.take<T>(targets() * columns);
    share_ = room.take<T>(columns);
    flat_ = room.take<T>((n > d ? n : d) * lanes);
    Job job = Builder{t_.flow, Weights{}, int64_t{sizeof(T)}}.job();
    job.rows = lanes, job.pixels = 1;
    const int64_t left = blocks * c_.kernel.trajectory(kDoubles, job), bytes = left * int64_t{sizeof(T)};
    kept_ = bytes <= kKept ? room.take<T>(left) : nullptr;
    job.kept = bytes <= kKept ? &job : nullptr;  // any address: while counting there is no memory yet
    scratch_ = room.take<char>(c_.kernel.scratch(kDoubles, job, true));
  }

  // Adds the gradients of a portion to `pull`, which lies as `Built::Places` says and `job` knows, and returns its part
  // of the loss. A loss that is no number leaves them unfinished.
  double run(const Portion<T>& portion, Job job, T* pull, const int64_t (&at)[kParts + 1]) {
    const Extent extent = this->extent(portion.count);
    const int64_t lanes = extent.lanes;
    take(portion, extent);
    job.rows = portion.count * pixels_of(t_), job.pixels = 1;
    job.row_stride = job.g_row_stride = job.out_row_stride = 1;
    job.feature_stride = job.g_feature_stride = job.out_feature_stride = lanes;
    job.stopped = [](void* guard) { return static_cast<Guard*>(guard)->stops(); };
    job.team = &c_.guard;
    job.y = y_, job.out = out_, job.g = g_, job.kept = kept_;
    c_.kernel.forward(kDoubles, job, 0, extent.blocks, scratch_);
    see(portion, extent);
    if (t_.loss == Loss::none) {
      tell(portion, extent.columns);
      return 0;
    }
    const double loss =
        c_.step.score(kDoubles, {t_.loss, extent.columns, t_.outputs, t_.smoothing, z_, target_, share_, gz_});
    tell(portion, extent.columns);
    const bool lifts = learns(t_, lift_weight) || learns(t_, lift_bias), goes_on = lifts || job.weights_too;
    see_back(portion, extent, goes_on ? g_ : nullptr, pull + at[head_weight], pull + at[head_bias]);
    if (!goes_on) return loss;
    job.out = g_;
    c_.kernel.backward(kDoubles, job, 0, extent.blocks, scratch_);
    if (t_.linear && lifts)
      c_.step.affine_back(kDoubles, lift(portion, lanes), g_, nullptr, pull + at[lift_weight], pull + at[lift_bias],
                          flat_);
    return loss;
  }

 private:
  static constexpr bool kDoubles = sizeof(T) == 8;
  static constexpr int64_t kKept = 8 << 20;  // bytes of a trajectory that cost less than computing it again

  // Whether there is a target for each output, and how many there are.
  bool of_outputs() const { return t_.loss == Loss::squares || t_.loss == Loss::given; }
  int64_t targets() const { return of_outputs() ? t_.outputs : 1; }
  const T* part(const Portion<T>& portion, int which) const { return portion.parameters + c_.start[which]; }
  Affine lift(const Portion<T>& portion, int64_t lanes) const {
    return {lanes, t_.flow.features, seen_of(t_), part(portion, lift_weight), part(portion, lift_bias), x_};
  }
  Affine head(const Portion<T>& portion, int64_t lanes) const {
    return {lanes, t_.outputs, t_.flow.features, part(portion, head_weight), part(portion, head_bias), out_};
  }
  Whole whole(const Portion<T>& portion, const Extent& extent) const {
    return {portion.count, pixels_of(t_), t_.flow.features, t_.outputs, extent.lanes, extent.columns,
            part(portion, head_weight), part(portion, head_bias), out_};
  }
  bool images() const { return t_.channels > 0; }

  Extent extent(int64_t rows) const {
    const int64_t samples = rows * pixels_of(t_), lanes = c_.kernel.lanes(kDoubles, t_.flow.features, samples);
    const int64_t blocks = (samples + lanes - 1) / lanes;
    return {blocks, blocks * lanes, images() ? c_.kernel.lanes(kDoubles, 1, rows) : lanes};
  }

  // The output layer, and back.
  void see(const Portion<T>& portion, const Extent& extent) const {
    if (images()) return c_.step.whole(kDoubles, whole(portion, extent), z_);
    c_.step.affine(kDoubles, head(portion, extent.lanes), z_);
  }
  void see_back(const Portion<T>& portion, const Extent& extent, T* y, T* A, T* b) const {
    if (images()) return c_.step.whole_back(kDoubles, whole(portion, extent), gz_, y, A, b);
    c_.step.affine_back(kDoubles, head(portion, extent.lanes), gz_, y, A, b, flat_);
  }
  const T* of_model(const void* data, int64_t stride, const Portion<T>& portion) const {
    return static_cast<const T*>(data) + portion.model * stride;
  }

  // The chosen rows across the lanes, lifted; targets and shares. Idle lanes are zero.
  void take(const Portion<T>& portion, const Extent& extent) {
    const int64_t d = t_.inputs, count = portion.count, lanes = extent.lanes, columns = extent.columns;
    clear(count, extent);
    const T* x = of_model(c_.all.x, c_.all.x_model, portion);
    T* to = t_.linear ? x_ : y_;
    for (int64_t i = 0; i < count; ++i) {
      const T* from = x + portion.chosen[i] * d;
      if (images())
        unfold(from, t_.channels, t_.height, t_.width, to + i * pixels_of(t_), lanes);
      else
        for (int64_t j = 0; j < d; ++j) to[j * lanes + i] = from[j];
    }
    if (t_.linear) c_.step.affine(kDoubles, lift(portion, lanes), y_);
    if (t_.loss == Loss::none) return;
    if (of_outputs()) {
      const T* y = of_model(c_.all.y, c_.all.y_model, portion);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t o = 0; o < t_.outputs; ++o) target_[o * columns + i] = y[portion.chosen[i] * t_.outputs + o];
    } else {
      const int64_t* y = static_cast<const int64_t*>(c_.all.y) + portion.model * c_.all.y_model;
      for (int64_t i = 0; i < count; ++i) target_[i] = static_cast<T>(y[portion.chosen[i]]);
    }
    if (c_.all.weight == nullptr) {
      for (int64_t i = 0; i < count; ++i) share_[i] = static_cast<T>(portion.share);
      return;
    }
    const T* weight = of_model(c_.all.weight, c_.all.weight_model, portion);
    for (int64_t i = 0; i < count; ++i) share_[i] = static_cast<T>(double(weight[portion.chosen[i]]) * portion.share);
  }

  // Rows start anew where they are cut otherwise than before.
  void clear(int64_t count, const Extent& extent) {
    const auto [blocks, lanes, columns] = extent;
    if (count == count_ && lanes == lanes_) return;
    count_ = count, lanes_ = lanes;
    const int64_t n = t_.flow.features;
    const struct { T* rows; int64_t size; } each[] = {{x_, t_.linear ? seen_of(t_) * lanes : 0}, {y_, n * lanes},
                                                      {out_, n * lanes}, {g_, n * lanes},
                                                      {target_, targets() * columns}, {share_, columns},
                                                      {z_, t_.outputs * columns}};
    for (const auto& one : each) std::memset(one.rows, 0, static_cast<size_t>(one.size) * sizeof(T));
  }

  // The network's outputs, sample by sample.
  void tell(const Portion<T>& portion, int64_t columns) const {
    if (portion.results == nullptr) return;
    for (int64_t i = 0; i < portion.count; ++i)
      for (int64_t j = 0; j < t_.outputs; ++j) portion.results[i * t_.outputs + j] = z_[j * columns + i];
  }

  const Call& c_;
  const Training& t_;
  int64_t count_ = 0, lanes_ = 0;
  T *x_, *y_, *out_, *g_, *z_, *gz_, *target_, *share_, *flat_, *kept_;  // rows of lanes
  char* scratch_;
};

}  // namespace hdnn
