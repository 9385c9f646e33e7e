// What images have beside vectors: their pixels are the samples of the flow, a 3 x 3 convolution lifts them, and the
// output layer reads whole images.
#pragma once
#include <cstdint>
#include <cstring>

namespace hdnn {

constexpr int64_t kTaps = 9;

// The neighbours of every pixel across the lanes, a row for each channel and tap, zeros beyond the border: a
// convolution of the image is then a linear map of these rows. `to` is the place of the image's first pixel.
template <class T>
void unfold(const T* image, int64_t channels, int64_t height, int64_t width, T* to, int64_t lanes) {
  const int64_t pixels = height * width;
  const auto zero = [](T* numbers, int64_t count) { std::memset(numbers, 0, static_cast<size_t>(count) * sizeof(T)); };
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t tap = 0; tap < kTaps; ++tap) {
      const int64_t down = tap / 3 - 1, right = tap % 3 - 1;
      T* row = to + (c * kTaps + tap) * lanes;
      for (int64_t r = 0; r < height; ++r, row += width) {
        if (r + down < 0 || r + down >= height) {
          zero(row, width);
          continue;
        }
        const T* from = image + c * pixels + (r + down) * width;
        const int64_t first = right < 0 ? 1 : 0, last = right > 0 ? width - 1 : width;
        if (last > first) std::memcpy(row + first, from + first + right, static_cast<size_t>(last - first) * sizeof(T));
        if (first > 0) row[0] = T(0);
        if (last < width) row[width - 1] = T(0);
      }
    }
}

}  // namespace hdnn
