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
  int64_t start[kParts + 1], most, lanes;  // rows of the largest batch, and lanes of the largest block
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
    const int64_t n = t_.flow.features, d = t_.inputs, o = t_.outputs, lanes = c_.lanes;
    x_ = room.take<T>(t_.linear ? d * lanes : 0);
    y_ = room.take<T>(n * lanes), out_ = room.take<T>(n * lanes), g_ = room.take<T>(n * lanes);
    z_ = room.take<T>(o * lanes), gz_ = room.take<T>(o * lanes);
    target_ = room.take<T>(targets() * lanes);
    share_ = room.take<T>(lanes);
    flat_ = room.take<T>((n > d ? n : d) * lanes);
    Job job = Builder{t_.flow, Weights{}, int64_t{sizeof(T)}}.job();
    job.rows = lanes, job.pixels = 1;
    const int64_t left = c_.kernel.trajectory(kDoubles, job), bytes = left * int64_t{sizeof(T)};
    kept_ = bytes <= kKept ? room.take<T>(left) : nullptr;
    job.kept = bytes <= kKept ? &job : nullptr;  // any address: while counting there is no memory yet
    scratch_ = room.take<char>(c_.kernel.scratch(kDoubles, job, true));
  }

  // Adds the gradients of a portion to `pull`, which lies as `Built::Places` says and `job` knows, and returns its part
  // of the loss. A loss that is no number leaves them unfinished.
  double run(const Portion<T>& portion, Job job, T* pull, const int64_t (&at)[kParts + 1]) {
    const int64_t n = t_.flow.features, lanes = c_.kernel.lanes(kDoubles, n, portion.count);
    take(portion, lanes);
    job.rows = portion.count, job.pixels = 1;
    job.row_stride = job.g_row_stride = job.out_row_stride = 1;
    job.feature_stride = job.g_feature_stride = job.out_feature_stride = lanes;
    job.stopped = [](void* guard) { return static_cast<Guard*>(guard)->stops(); };
    job.team = &c_.guard;
    job.y = y_, job.out = out_, job.g = g_, job.kept = kept_;
    c_.kernel.forward(kDoubles, job, 0, 1, scratch_);
    const Affine head{lanes, t_.outputs, n, part(portion, head_weight), part(portion, head_bias), out_};
    c_.step.affine(kDoubles, head, z_);
    if (t_.loss == Loss::none) {
      tell(portion, lanes);
      return 0;
    }
    const double loss = c_.step.score(kDoubles, {t_.loss, lanes, t_.outputs, t_.smoothing, z_, target_, share_, gz_});
    tell(portion, lanes);
    const bool lifts = learns(t_, lift_weight) || learns(t_, lift_bias), goes_on = lifts || job.weights_too;
    c_.step.affine_back(kDoubles, head, gz_, goes_on ? g_ : nullptr, pull + at[head_weight], pull + at[head_bias],
                        flat_);
    if (!goes_on) return loss;
    job.out = g_;
    c_.kernel.backward(kDoubles, job, 0, 1, scratch_);
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
    return {lanes, t_.flow.features, t_.inputs, part(portion, lift_weight), part(portion, lift_bias), x_};
  }
  const T* of_model(const void* data, int64_t stride, const Portion<T>& portion) const {
    return static_cast<const T*>(data) + portion.model * stride;
  }

  // The chosen rows across the lanes, lifted; targets and shares. Idle lanes are zero.
  void take(const Portion<T>& portion, int64_t lanes) {
    const int64_t d = t_.inputs, count = portion.count;
    clear(count, lanes);
    const T* x = of_model(c_.all.x, c_.all.x_model, portion);
    T* to = t_.linear ? x_ : y_;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < d; ++j) to[j * lanes + i] = x[portion.chosen[i] * d + j];
    if (t_.linear) c_.step.affine(kDoubles, lift(portion, lanes), y_);
    if (t_.loss == Loss::none) return;
    if (of_outputs()) {
      const T* y = of_model(c_.all.y, c_.all.y_model, portion);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t o = 0; o < t_.outputs; ++o) target_[o * lanes + i] = y[portion.chosen[i] * t_.outputs + o];
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
  void clear(int64_t count, int64_t lanes) {
    if (count == count_ && lanes == lanes_) return;
    count_ = count, lanes_ = lanes;
    const int64_t n = t_.flow.features, o = targets();
    const struct { T* rows; int64_t height; } each[] = {{x_, t_.linear ? t_.inputs : 0}, {y_, n}, {out_, n},
                                                        {g_, n}, {target_, o}, {share_, 1}};
    for (const auto& one : each) std::memset(one.rows, 0, static_cast<size_t>(one.height * lanes) * sizeof(T));
  }

  // The network's outputs, sample by sample.
  void tell(const Portion<T>& portion, int64_t lanes) const {
    if (portion.results == nullptr) return;
    for (int64_t i = 0; i < portion.count; ++i)
      for (int64_t j = 0; j < t_.outputs; ++j) portion.results[i * t_.outputs + j] = z_[j * lanes + i];
  }

  const Call& c_;
  const Training& t_;
  int64_t count_ = 0, lanes_ = 0;
  T *x_, *y_, *out_, *g_, *z_, *gz_, *target_, *share_, *flat_, *kept_;  // rows of lanes
  char* scratch_;
};

}  // namespace hdnn
