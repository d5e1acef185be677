// Input planes laid out so that each tap of a convolution reads them in the order of its outputs.
//
// Of each channel there is one plane per column of the kernel and per phase of the vertical stride.
// Entry (row, column) of the plane of kernel column k and phase p is the input at row
// row*stride + p - top and column column*stride + k*dilation - left, or zero outside of it. A tap of
// kernel row j, where j*dilation = s*stride + p, so finds what it needs for output i, counted along
// rows, at i + s*(output width): one offset per tap, whatever stride, padding and dilation are.
#pragma once

#include <cstdint>
#include <vector>

#include "program.h"

namespace prunus {

class Planes {
 public:
  // Throws std::invalid_argument where the geometry makes no sense or is too large.
  explicit Planes(const Geometry& geometry);

  int out_height() const { return out_height_; }
  int out_width() const { return out_width_; }
  int outputs() const { return out_height_ * out_width_; }
  int taps() const { return static_cast<int>(offsets_.size()); }
  // Whether the input can be read as it lies.
  bool plain() const { return plain_; }
  std::int64_t channel_floats() const { return channel_floats_; }
  const std::vector<std::int32_t>& offsets() const { return offsets_; }  // of taps in a channel
  // Floats of one channel that a tile of `count` outputs reads.
  std::int64_t touched(int count) const;

  // Fills what outputs from `begin` to before `end`, counted along rows, read of one channel.
  void fill(const Kernels& kernels, const float* channel, float* to, int begin, int end) const;

 private:
  void fill_rows(const Kernels& kernels, const float* channel, int kernel_column, int phase, float* to,
                 int first, int last) const;

  Geometry geometry_;
  int out_height_, out_width_;
  bool plain_, shifted_;
  std::vector<int> phases_;
  int rows_, plane_;  // of a plane; its floats
  std::int64_t channel_floats_;
  std::vector<std::int32_t> offsets_;
  std::vector<std::vector<std::uint8_t>> bits_;  // per kernel column
};

}  // namespace prunus
