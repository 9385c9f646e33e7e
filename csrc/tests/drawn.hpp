// Random numbers and unwritten arrays of exactly their size, for the sanitized programs, and the counts of what they ran.
#pragma once
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace {

std::mt19937_64 generator(1);
long runs = 0, failures = 0;

[[maybe_unused]] int64_t drawn(int64_t most) {
  return static_cast<int64_t>(generator() % static_cast<uint64_t>(most));
}

template <class T> std::vector<T> normal(int64_t count, double scale) {
  std::normal_distribution<double> draw(0, scale);
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = static_cast<T>(draw(generator));
  values.shrink_to_fit();
  return values;
}

template <class T> std::vector<T> unwritten(int64_t count) {
  return std::vector<T>(static_cast<size_t>(count), std::numeric_limits<T>::quiet_NaN());
}

}  // namespace
