// Linear layers: rows of a batch times a sparse matrix.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "program.h"
#include "slices.h"

namespace prunus {
namespace {

class Linear final : public Step {
 public:
  Linear(std::int64_t batch, std::shared_ptr<const SparseMatrix> matrix, Ending ending)
      : batch_(static_cast<int>(batch)), matrix_(std::move(matrix)), ending_(std::move(ending)) {
    if (batch < 1 || batch > 1 << 24)
      throw std::invalid_argument("a batch has 1 to 2^24 rows, got " + std::to_string(batch) + ".");
    ending_.check(matrix_->rows());
  }

  std::int64_t reads() const override { return static_cast<std::int64_t>(batch_) * matrix_->columns(); }
  std::int64_t writes() const override { return static_cast<std::int64_t>(batch_) * matrix_->rows(); }
  std::size_t scratch() const override {
    return single_ ? 0
                   : static_cast<std::size_t>(tile_) *
                         static_cast<std::size_t>(matrix_->columns() + matrix_->rows() + 16);
  }

  std::vector<Tuning> candidates(const Kernels& kernels) const override {
    std::vector<Tuning> found;
    if (batch_ <= 32) found.push_back({0, 0, 0, true});
    if (batch_ == 1) return found;
    const int widest = kernels.widest[matrix_->log_height()];
    const int vectors = (batch_ + kernels.lanes - 1) / kernels.lanes;
    int last = 0;
    for (int width = widest; width >= 1; --width) {
      const int tiles = (vectors + width - 1) / width;
      if (tiles == last || (width < 3 && width < widest && width != vectors)) continue;
      last = tiles;
      const std::int64_t bytes = static_cast<std::int64_t>(matrix_->columns()) * width * kernels.lanes * 4;
      for (const int near : {0, 16 << 10, 32 << 10, 128 << 10}) {
        if (near && bytes <= near) continue;
        for (const int kib : {8, 16, 64, 0}) {
          const int chunk = (kib << 10) / (matrix_->height() * width * kernels.lanes * 4);
          if (kib && (chunk < 1 || chunk >= matrix_->blocks())) continue;
          found.push_back({width, near, chunk, false});
        }
      }
    }
    return found;
  }

  void tune(const Tuning& tuning, const Kernels& kernels) override {
    single_ = tuning.packed || batch_ == 1;
    const int widest = kernels.widest[matrix_->log_height()];
    const int width = tuning.width ? std::min(tuning.width, widest) : widest;
    vectors_ = (batch_ + kernels.lanes - 1) / kernels.lanes;
    tiles_ = (vectors_ + width - 1) / width;
    tile_ = (vectors_ + tiles_ - 1) / tiles_ * kernels.lanes;
    chunk_ = tuning.chunk ? tuning.chunk : matrix_->blocks();
    const int columns = matrix_->columns();
    std::int64_t per_panel = columns;
    if (tuning.near && !single_)
      per_panel = std::max<std::int64_t>(1, tuning.near / (tile_ * static_cast<int>(sizeof(float))));
    if (!single_ && static_cast<std::int64_t>(columns) * tile_ > (std::int64_t{1} << 31) - 1)
      throw std::invalid_argument("the linear layer's input is too large.");
    std::vector<std::int32_t> panel_of, offset_of;
    for (int column = 0; column < columns; ++column) {
      panel_of.push_back(static_cast<std::int32_t>(column / per_panel));
      offset_of.push_back(single_ ? column : column * tile_);
    }
    panels_ = Panels(*matrix_, panel_of, offset_of, {});
    const bool sliced = single_ && kernels.slices && matrix_->height() == 1 && columns >= Slices::kWindow;
    slices_ = sliced ? Slices(*matrix_) : Slices();
  }

  void run(const Context& context, const float* x, const float* residual, float* y) override {
    if (single_)
      run_rows(context, x, residual, y);
    else
      for (int tile = 0; tile < tiles_; ++tile) run_tile(context, x, residual, y, tile);
  }

 private:
  // One row of the batch after the other, each a vector.
  void run_rows(const Context& context, const float* x, const float* residual, float* y) {
    const int blocks = matrix_->blocks(), slices = slices_.count();
    constexpr std::int64_t kWorthSharing = 1 << 15;  // values
    const bool shared = matrix_->entries() * matrix_->height() >= kWorthSharing;
    const int parts = shared ? std::min(slices ? slices : blocks, context.pool->threads() * 2) : 1;
    context.pool->share(batch_ * parts, [&](int task, int) {
      const std::int64_t n = task / parts, part = task % parts;
      VectorJob job;
      job.rows = matrix_->rows();
      job.columns = matrix_->columns();
      job.x = x + n * matrix_->columns();
      job.residual = residual ? residual + n * matrix_->rows() : nullptr;
      job.y = y + n * matrix_->rows();
      job.end = ending_.epilogue();
      if (slices) {
        job.starts = slices_.starts.data();
        job.offsets = slices_.windows.data();
        job.index = slices_.index.data();
        job.values = slices_.values.data();
        job.first = static_cast<int>(slices * part / parts);
        job.last = static_cast<int>(slices * (part + 1) / parts);
        if (context.kernels->slices(job)) return;
        job.first *= Slices::kRows;  // the same rows, one by one
        job.last = std::min(blocks, job.last * Slices::kRows);
      } else {
        job.first = static_cast<int>(blocks * part / parts);
        job.last = static_cast<int>(blocks * (part + 1) / parts);
      }
      job.starts = panels_.starts.data();
      job.offsets = panels_.offsets.data();
      job.values = panels_.values.data();
      context.kernels->vector[matrix_->log_height()](job);
    });
  }

  // Some rows of the batch at once, transposed so that a vector holds one feature of them.
  void run_tile(const Context& context, const float* x, const float* residual, float* y, int tile) {
    const Kernels& kernels = *context.kernels;
    const int first = static_cast<int>(static_cast<std::int64_t>(vectors_) * tile / tiles_);
    const int width = static_cast<int>(static_cast<std::int64_t>(vectors_) * (tile + 1) / tiles_) - first;
    const int begin = first * kernels.lanes;
    const int count = std::min(width * kernels.lanes, batch_ - begin);
    const int columns = matrix_->columns(), rows = matrix_->rows(), height = matrix_->height();
    float* features = (*context.scratch)[0].data();
    float* sums = features + static_cast<std::int64_t>(columns) * tile_;
    const int threads = context.pool->threads();
    const auto piece = [](int whole, int part, int parts, int round) {
      const auto at = static_cast<int>(static_cast<std::int64_t>(whole) * part / parts);
      return part == parts ? whole : at / round * round;
    };

    const int loads = threads == 1 ? 1 : std::min(threads * 2, (columns + 15) / 16);
    context.pool->share(loads, [&](int part, int) {
      const int from = piece(columns, part, loads, 16), to = piece(columns, part + 1, loads, 16);
      kernels.transpose(x + static_cast<std::int64_t>(begin) * columns + from, columns, count, to - from,
                        features + static_cast<std::int64_t>(from) * tile_, tile_);
    });

    // Sums are written out while they are near.
    const int blocks = matrix_->blocks();
    int parts = (blocks + chunk_ - 1) / chunk_;
    if (threads > 1) parts = std::max(parts, std::min(threads * 4, blocks));
    context.pool->share(parts, [&](int part, int) {
      RowsJob job;
      job.starts = panels_.starts.data();
      job.offsets = panels_.offsets.data();
      job.values = panels_.values.data();
      job.blocks = blocks;
      job.panels = panels_.count;
      job.rows = rows;
      job.first = piece(blocks, part, parts, 1);
      job.last = piece(blocks, part + 1, parts, 1);
      job.chunk = blocks;
      job.x = features;
      job.y = sums;
      job.stride = tile_;
      job.count = count;
      job.end = ending_.epilogue();
      const int from = job.first * height, to = std::min(rows, job.last * height);
      if (from >= to) return;
      float* own = sums + static_cast<std::int64_t>(from) * tile_;
      const std::int64_t at = static_cast<std::int64_t>(begin) * rows + from;
      if (residual) {
        kernels.transpose(residual + at, rows, count, to - from, own, tile_);
        job.residual = sums;
      }
      const bool cut = count < width * kernels.lanes;
      kernels.rows[matrix_->log_height()][width - 1][cut](job);
      kernels.transpose(own, tile_, to - from, count, y + at, rows);
    });
  }

  int batch_;
  std::shared_ptr<const SparseMatrix> matrix_;
  Ending ending_;
  Panels panels_;
  Slices slices_;  // of single weights and rows of the batch, where they are faster
  bool single_ = false;
  int vectors_ = 1, tiles_ = 1, tile_ = 1, chunk_ = 1;
};

}  // namespace

std::unique_ptr<Step> make_linear(std::int64_t batch, std::shared_ptr<const SparseMatrix> matrix,
                                  Ending ending) {
  return std::make_unique<Linear>(batch, std::move(matrix), std::move(ending));
}

}  // namespace prunus
