#include "planes.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

namespace prunus {
namespace {

constexpr int kRound = 16;  // the most lanes of a vector

std::int64_t rounded(std::int64_t n) { return (n + kRound - 1) / kRound * kRound; }

void check(const Geometry& g) {
  const std::int64_t sizes[] = {g.batch,         g.channels,     g.height,       g.width,
                                g.kernel_height, g.kernel_width, g.stride_height, g.stride_width,
                                g.dilation_height, g.dilation_width, g.groups};
  const std::int64_t pads[] = {g.top, g.left, g.bottom, g.right};
  constexpr std::int64_t most = 1 << 24;
  for (const std::int64_t size : sizes)
    if (size < 1 || size > most)
      throw std::invalid_argument("sizes, strides, dilations and groups must be in [1, 2^24], got " +
                                  std::to_string(size) + ".");
  for (const std::int64_t pad : pads)
    if (pad < 0 || pad > most)
      throw std::invalid_argument("padding must be in [0, 2^24], got " + std::to_string(pad) + ".");
  if (g.channels % g.groups)
    throw std::invalid_argument(std::to_string(g.groups) + " groups must divide " +
                                std::to_string(g.channels) + " channels.");
}

int extent(std::int64_t size, std::int64_t pads, std::int64_t kernel, std::int64_t dilation,
           std::int64_t stride) {
  const std::int64_t left = size + pads - dilation * (kernel - 1) - 1;
  if (left < 0) throw std::invalid_argument("the kernel is larger than the padded input.");
  return static_cast<int>(left / stride + 1);
}

}  // namespace

Planes::Planes(const Geometry& geometry) : geometry_(geometry) {
  check(geometry);
  const Geometry& g = geometry_;
  out_height_ = extent(g.height, g.top + g.bottom, g.kernel_height, g.dilation_height, g.stride_height);
  out_width_ = extent(g.width, g.left + g.right, g.kernel_width, g.dilation_width, g.stride_width);
  const bool one = g.stride_height == 1 && g.stride_width == 1;
  plain_ = one && g.kernel_height == 1 && g.kernel_width == 1 && !(g.top | g.left | g.bottom | g.right);
  // With the input's own width, rows follow each other as in the input: a plane is it, moved.
  shifted_ = one && out_width_ == g.width;

  std::int64_t most = 0;
  for (std::int64_t j = 0; j < g.kernel_height; ++j) {
    const int phase = static_cast<int>(j * g.dilation_height % g.stride_height);
    if (std::find(phases_.begin(), phases_.end(), phase) == phases_.end()) phases_.push_back(phase);
    most = std::max(most, j * g.dilation_height / g.stride_height);
  }
  const std::int64_t rows = out_height_ + most;
  // A row is written in whole vectors, the last beyond its end. An odd number of cache lines spreads
  // channels over the cache.
  std::int64_t plane = rounded(rows * out_width_ + kRound - 1);
  if (plane / kRound % 2 == 0) plane += kRound;
  const std::int64_t planes = g.kernel_width * static_cast<std::int64_t>(phases_.size());
  channel_floats_ = plane * planes;
  if (channel_floats_ > std::numeric_limits<std::int32_t>::max() / g.channels ||
      g.height * g.width > std::numeric_limits<std::int32_t>::max() / g.channels)
    throw std::invalid_argument("the convolution's input is too large.");
  rows_ = static_cast<int>(rows);
  plane_ = static_cast<int>(plane);

  for (std::int64_t j = 0; j < g.kernel_height; ++j) {
    const std::int64_t moved = j * g.dilation_height;
    const auto phase = std::find(phases_.begin(), phases_.end(), moved % g.stride_height) - phases_.begin();
    for (std::int64_t k = 0; k < g.kernel_width; ++k)
      offsets_.push_back(static_cast<std::int32_t>(
          (k * static_cast<std::int64_t>(phases_.size()) + phase) * plane +
          moved / g.stride_height * out_width_));
  }

  for (std::int64_t k = 0; k < g.kernel_width; ++k) {
    const std::int64_t begin = k * g.dilation_width - g.left;
    const auto inside = [&](std::int64_t x, std::int64_t size) { return 0 <= x && x < size; };
    std::int64_t count = rounded(out_width_) * g.stride_width;
    if (shifted_) count = plane;
    std::vector<std::uint8_t> bits(static_cast<std::size_t>(count / 8), 0);
    for (std::int64_t i = 0; i < count; ++i) {
      const bool seen = shifted_ ? i / out_width_ < rows && inside(i / out_width_ - g.top, g.height) &&
                                       inside(i % out_width_ + begin, g.width)
                                 : inside(i + begin, g.width);
      if (seen) bits[i / 8] |= static_cast<std::uint8_t>(1u << i % 8);
    }
    bits_.push_back(std::move(bits));
  }
}

std::int64_t Planes::touched(int count) const {
  if (plain_) return count;
  return geometry_.kernel_width * static_cast<std::int64_t>(phases_.size()) *
         (count + (rows_ - out_height_) * static_cast<std::int64_t>(out_width_));
}

void Planes::fill(const Kernels& kernels, const float* channel, float* to, int begin, int end) const {
  const Geometry& g = geometry_;
  const int below = rows_ - out_height_;
  const int from = begin / kRound * kRound;
  const int until = std::min(plane_, static_cast<int>(rounded(end + below * out_width_)));
  const int first = begin / out_width_, last = std::min(rows_, (end - 1) / out_width_ + 1 + below);
  for (std::int64_t k = 0; k < g.kernel_width; ++k)
    for (const int phase : phases_) {
      if (shifted_) {
        const std::ptrdiff_t moved = k * g.dilation_width - g.left - g.top * g.width;
        kernels.copy_where(channel + moved + from, bits_[k].data() + from / 8, to + from, until - from);
      } else {
        fill_rows(kernels, channel, static_cast<int>(k), phase, to, first, last);
      }
      to += plane_;
    }
}

void Planes::fill_rows(const Kernels& kernels, const float* channel, int kernel_column, int phase,
                       float* to, int first, int last) const {
  const Geometry& g = geometry_;
  const std::int64_t begin = kernel_column * g.dilation_width - g.left;
  const auto* bits = bits_[kernel_column].data();
  const int whole = static_cast<int>(rounded(out_width_));
  // Rows above and below the input are zero; those between are from row `top` to before `bottom`.
  const auto clamped = [&](std::int64_t row) {
    return static_cast<int>(std::clamp<std::int64_t>(row, first, last));
  };
  const std::int64_t above = g.top - phase, stride = g.stride_height;
  const int top = clamped((std::max<std::int64_t>(0, above) + stride - 1) / stride);
  const int bottom = std::max(top, clamped((g.height + above + stride - 1) / stride));
  const auto at = [&](int row) { return to + static_cast<std::ptrdiff_t>(row) * out_width_; };
  const auto clear = [&](int from, int until) {
    std::memset(at(from), 0, static_cast<std::size_t>(until - from) * out_width_ * sizeof(float));
  };
  clear(first, top);
  const float* source = channel + (top * stride - above) * g.width + begin;
  const std::ptrdiff_t apart = stride * g.width;
  if (g.stride_width == 2 && top < bottom)
    kernels.every_second(source, apart, bits, at(top), out_width_, whole, bottom - top);
  else
    for (int row = top; row < bottom; ++row, source += apart) {
      float* target = at(row);
      if (g.stride_width == 1)
        kernels.copy_where(source, bits, target, whole);
      else
        for (int x = 0; x < out_width_; ++x) {
          const std::int64_t place = x * g.stride_width;
          target[x] = bits[place / 8] >> place % 8 & 1 ? source[place] : 0.0f;
        }
    }
  clear(bottom, last);
}

}  // namespace prunus
