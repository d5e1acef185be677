// Convolutions over channel planes, one image after the other: an image is (channels, height, width)
// as ONNX has it, and a batch of images is no larger a problem than one.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "planes.h"
#include "program.h"

namespace prunus {
namespace {

class Conv final : public Step {
 public:
  Conv(const Geometry& geometry, std::shared_ptr<const SparseMatrix> matrix, Ending ending)
      : geometry_(geometry), planes_(geometry), matrix_(std::move(matrix)), ending_(std::move(ending)) {
    const std::int64_t inputs = geometry.channels / geometry.groups * planes_.taps();
    if (matrix_->columns() != inputs)
      throw std::invalid_argument("the weights must have " + std::to_string(inputs) + " columns, got " +
                                  std::to_string(matrix_->columns()) + ".");
    if (matrix_->rows() % geometry.groups ||
        (geometry.groups > 1 && matrix_->rows() / geometry.groups % matrix_->height()))
      throw std::invalid_argument("each of " + std::to_string(geometry.groups) +
                                  " groups must have whole blocks of output channels.");
    ending_.check(matrix_->rows());
  }

  bool in_place() const override { return true; }
  std::int64_t reads() const override {
    return geometry_.batch * geometry_.channels * geometry_.height * geometry_.width;
  }
  std::int64_t writes() const override {
    return geometry_.batch * matrix_->rows() * static_cast<std::int64_t>(planes_.outputs());
  }
  std::size_t scratch() const override {
    return packed_ ? static_cast<std::size_t>(planes_.channel_floats() * geometry_.channels) : 0;
  }

  std::vector<Tuning> candidates(const Kernels& kernels) const override;
  void tune(const Tuning& tuning, const Kernels& kernels) override;
  void run(const Context& context, const float* x, const float* residual, float* y) override;

 private:
  void image(const Context& context, const float* x, const float* residual, float* y, int part,
             int parts, int tile) const;

  // The first vector of a tile; tiles are as even as whole vectors allow.
  int first_of(int tile) const {
    return static_cast<int>(static_cast<std::int64_t>(vectors_) * tile / tiles_);
  }

  Geometry geometry_;
  Planes planes_;
  std::shared_ptr<const SparseMatrix> matrix_;
  Ending ending_;
  Panels panels_;
  bool packed_ = false;
  int tiles_ = 1, vectors_ = 1, chunk_ = 1;
};

std::vector<Tuning> Conv::candidates(const Kernels& kernels) const {
  const int widest = kernels.widest[matrix_->log_height()];
  const int vectors = (planes_.outputs() + kernels.lanes - 1) / kernels.lanes;
  const auto tiles = [&](int width) { return (vectors + width - 1) / width; };
  std::vector<Tuning> found;
  int last = 0;
  for (int width = widest; width >= 1; --width) {
    // Widths that cut the plane into as many tiles are one; narrow ones pay where nothing else fits.
    if (tiles(width) == last || (width < 3 && width < widest)) continue;
    last = tiles(width);
    const std::int64_t floats = planes_.touched(width * kernels.lanes) * geometry_.channels;
    for (const int near : {0, 24 << 10, 48 << 10, 192 << 10}) {
      if (near && floats * 4 <= near) continue;
      for (const bool packed : {false, true}) {
        if (packed && !planes_.plain()) continue;
        found.push_back({width, near, 0, packed});
        const int chunk = (16 << 10) / (matrix_->height() * width * kernels.lanes * 4);
        if (near && near < 100000 && chunk < matrix_->blocks())
          found.push_back({width, near, std::max(1, chunk), packed});
      }
    }
  }
  return found;
}

void Conv::tune(const Tuning& tuning, const Kernels& kernels) {
  const int widest = kernels.widest[matrix_->log_height()];
  const int width = tuning.width ? std::min(tuning.width, widest) : widest;
  vectors_ = (planes_.outputs() + kernels.lanes - 1) / kernels.lanes;
  tiles_ = (vectors_ + width - 1) / width;
  chunk_ = tuning.chunk ? tuning.chunk : matrix_->blocks();
  packed_ = tuning.packed || !planes_.plain();

  const std::int64_t channel = packed_ ? planes_.channel_floats() : geometry_.height * geometry_.width;
  std::int64_t per_panel = geometry_.channels;
  if (tuning.near)
    per_panel = std::max<std::int64_t>(
        1, tuning.near / static_cast<std::int64_t>(sizeof(float)) / planes_.touched(width * kernels.lanes));
  const int taps = planes_.taps();
  std::vector<std::int32_t> panel_of, offset_of;
  for (std::int64_t c = 0; c < geometry_.channels; ++c)
    for (int tap = 0; tap < taps; ++tap) {
      panel_of.push_back(static_cast<std::int32_t>(c / per_panel));
      const std::int32_t in_channel = packed_ ? planes_.offsets()[tap] : 0;
      offset_of.push_back(static_cast<std::int32_t>(c * channel) + in_channel);
    }
  std::vector<std::int32_t> moved;
  const int per_group = static_cast<int>(matrix_->rows() / geometry_.groups) / matrix_->height();
  if (geometry_.groups > 1)
    for (int block = 0; block < matrix_->blocks(); ++block)
      moved.push_back(block / per_group * matrix_->columns());
  panels_ = Panels(*matrix_, panel_of, offset_of, moved);
}

void Conv::image(const Context& context, const float* x, const float* residual, float* y, int part,
                 int parts, int tile) const {
  const Kernels& kernels = *context.kernels;
  const int outputs = planes_.outputs(), blocks = matrix_->blocks();
  const int first = first_of(tile), width = first_of(tile + 1) - first;
  const int begin = first * kernels.lanes;
  RowsJob job;
  job.starts = panels_.starts.data();
  job.offsets = panels_.offsets.data();
  job.values = panels_.values.data();
  job.blocks = blocks;
  job.panels = panels_.count;
  job.rows = matrix_->rows();
  job.first = static_cast<int>(static_cast<std::int64_t>(blocks) * part / parts);
  job.last = static_cast<int>(static_cast<std::int64_t>(blocks) * (part + 1) / parts);
  job.chunk = chunk_;
  job.x = x + begin;
  job.y = y + begin;
  job.residual = residual ? residual + begin : nullptr;
  job.stride = outputs;
  job.count = std::min(width * kernels.lanes, outputs - begin);
  job.end = ending_.epilogue();
  const bool cut = job.count < width * kernels.lanes;
  kernels.rows[matrix_->log_height()][width - 1][cut](job);
}

void Conv::run(const Context& context, const float* x, const float* residual, float* y) {
  const std::int64_t in = geometry_.channels * geometry_.height * geometry_.width;
  const std::int64_t plane = geometry_.height * geometry_.width;
  const std::int64_t out = matrix_->rows() * static_cast<std::int64_t>(planes_.outputs());
  const int threads = context.pool->threads(), batch = static_cast<int>(geometry_.batch);
  const int channels = static_cast<int>(geometry_.channels);
  const auto fill = [&](std::int64_t n, float* to, int from_tile, int to_tile) {
    const int begin = first_of(from_tile) * context.kernels->lanes;
    const int end = std::min(planes_.outputs(), first_of(to_tile) * context.kernels->lanes);
    for (int channel = 0; channel < channels; ++channel)
      planes_.fill(*context.kernels, x + n * in + channel * plane,
                   to + channel * planes_.channel_floats(), begin, end);
  };
  const auto added = [&](std::int64_t n) { return residual ? residual + n * out : nullptr; };

  if (threads > 1 && (batch % threads == 0 || batch >= 4 * threads)) {
    context.pool->share(batch, [&](int n, int thread) {
      float* scratch = (*context.scratch)[thread].data();
      if (packed_) fill(n, scratch, 0, tiles_);
      const float* from = packed_ ? scratch : x + n * in;
      for (int tile = 0; tile < tiles_; ++tile)
        image(context, from, added(n), y + n * out, 0, 1, tile);
    });
    return;
  }
  // Threads fill planes of their own for the tiles they take: from another's cache they would come
  // slower than they are made. Where there are few tiles, threads take all of them for some rows.
  const int runs = threads == 1 ? 1 : tiles_ >= 4 * threads ? 2 * threads : packed_ ? 1 : tiles_;
  const int wanted = threads == 1 ? 1 : packed_ ? (runs == 1 ? threads : 1) : (4 * threads + runs - 1) / runs;
  const int parts = std::clamp(wanted, 1, std::max(1, matrix_->blocks() / 2));
  for (int n = 0; n < batch; ++n)
    context.pool->share(runs * parts, [&](int task, int thread) {
      const int run = task / parts;
      const auto begin = static_cast<int>(static_cast<std::int64_t>(tiles_) * run / runs);
      const auto end = static_cast<int>(static_cast<std::int64_t>(tiles_) * (run + 1) / runs);
      float* scratch = (*context.scratch)[thread].data();
      if (packed_) fill(n, scratch, begin, end);
      const float* from = packed_ ? scratch : x + n * in;
      for (int tile = begin; tile < end; ++tile)
        image(context, from, added(n), y + n * out, task % parts, parts, tile);
    });
}

class Depthwise final : public Step {
 public:
  Depthwise(const Geometry& geometry, std::vector<float> weights, Ending ending)
      : geometry_(geometry), planes_(geometry), weights_(std::move(weights)), ending_(std::move(ending)) {
    const std::int64_t per_channel = geometry.channels * planes_.taps();
    if (geometry.groups != geometry.channels)
      throw std::invalid_argument("a depthwise convolution has as many groups as channels, got " +
                                  std::to_string(geometry.groups) + " and " +
                                  std::to_string(geometry.channels) + ".");
    if (weights_.empty() || static_cast<std::int64_t>(weights_.size()) % per_channel)
      throw std::invalid_argument("the weights must be a multiple of " + std::to_string(per_channel) +
                                  ", got " + std::to_string(weights_.size()) + ".");
    times_ = static_cast<int>(static_cast<std::int64_t>(weights_.size()) / per_channel);
    ending_.check(geometry.channels * times_);
  }

  bool in_place() const override { return true; }
  std::int64_t reads() const override {
    return geometry_.batch * geometry_.channels * geometry_.height * geometry_.width;
  }
  std::int64_t writes() const override {
    return geometry_.batch * geometry_.channels * times_ * static_cast<std::int64_t>(planes_.outputs());
  }
  std::size_t scratch() const override { return static_cast<std::size_t>(planes_.channel_floats()); }

  void run(const Context& context, const float* x, const float* residual, float* y) override {
    const int channels = static_cast<int>(geometry_.channels);
    const std::int64_t in = geometry_.height * geometry_.width, out = planes_.outputs();
    context.pool->share(static_cast<int>(geometry_.batch) * channels, [&](int task, int thread) {
      float* planes = (*context.scratch)[thread].data();
      planes_.fill(*context.kernels, x + task * in, planes, 0, planes_.outputs());
      for (int i = 0; i < times_; ++i) {
        const std::int64_t row = static_cast<std::int64_t>(task) * times_ + i;
        const std::int64_t channel = (task % channels) * static_cast<std::int64_t>(times_) + i;
        DepthwiseJob job;
        job.x = planes;
        job.offsets = planes_.offsets().data();
        job.values = weights_.data() + channel * planes_.taps();
        job.taps = planes_.taps();
        job.y = y + row * out;
        job.residual = residual ? residual + row * out : nullptr;
        job.count = static_cast<int>(out);
        job.bias = ending_.bias.empty() ? 0.0f : ending_.bias[channel];
        job.end = ending_.epilogue();
        context.kernels->depthwise(job);
      }
    });
  }

 private:
  Geometry geometry_;
  Planes planes_;
  std::vector<float> weights_;
  Ending ending_;
  int times_ = 1;
};

}  // namespace

std::unique_ptr<Step> make_conv(const Geometry& geometry, std::shared_ptr<const SparseMatrix> matrix,
                                Ending ending) {
  return std::make_unique<Conv>(geometry, std::move(matrix), std::move(ending));
}

std::unique_ptr<Step> make_depthwise(const Geometry& geometry, std::vector<float> weights,
                                     Ending ending) {
  return std::make_unique<Depthwise>(geometry, std::move(weights), std::move(ending));
}

}  // namespace prunus
