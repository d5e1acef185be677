#include "sparse.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace prunus {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

std::string text(std::int64_t number) { return std::to_string(number); }

}  // namespace

SparseMatrix::SparseMatrix(std::int64_t rows, std::int64_t columns, std::int64_t height,
                           std::vector<std::int64_t> starts, std::vector<std::int64_t> columns_of,
                           std::vector<float> values) {
  if (rows < 1 || rows > kMost || columns < 1 || columns > kMost)
    refuse("a sparse matrix has at least one row and column and fewer than 2^31, got " + text(rows) +
           " x " + text(columns) + ".");
  if (height != 1 && height != 2 && height != 4 && height != 8 && height != 16)
    refuse("blocks must be 1, 2, 4, 8 or 16 rows high, got " + text(height) + ".");
  const std::int64_t blocks = (rows + height - 1) / height;
  const auto entries = static_cast<std::int64_t>(columns_of.size());
  if (static_cast<std::int64_t>(starts.size()) != blocks + 1)
    refuse("row starts must be " + text(blocks + 1) + " numbers, one more than rows of blocks, got " +
           text(static_cast<std::int64_t>(starts.size())) + ".");
  if (entries > kMost / height)
    refuse("a sparse matrix holds fewer than 2^31 values, got " + text(entries) + " blocks of " +
           text(height) + ".");
  if (static_cast<std::int64_t>(values.size()) != entries * height)
    refuse("values must be " + text(entries) + " x " + text(height) + ", got " +
           text(static_cast<std::int64_t>(values.size())) + " numbers.");
  if (starts.front() != 0 || starts.back() != entries)
    refuse("row starts must go from 0 to the number of blocks, " + text(entries) + ", got " +
           text(starts.front()) + " to " + text(starts.back()) + ".");
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t from = starts[block], to = starts[block + 1];
    if (from > to || to > entries)
      refuse("row starts must not fall, got " + text(from) + " before " + text(to) + " at row " +
             text(block) + ".");
    for (std::int64_t at = from; at < to; ++at) {
      if (columns_of[at] < 0 || columns_of[at] >= columns)
        refuse("columns must be in [0, " + text(columns) + "), got " + text(columns_of[at]) + ".");
      if (at > from && columns_of[at] <= columns_of[at - 1])
        refuse("columns must grow within a row, got " + text(columns_of[at]) + " after " +
               text(columns_of[at - 1]) + " in row " + text(block) + ".");
    }
  }
  rows_ = static_cast<int>(rows);
  columns_ = static_cast<int>(columns);
  height_ = static_cast<int>(height);
  starts_.assign(starts.begin(), starts.end());
  columns_of_.assign(columns_of.begin(), columns_of.end());
  values_ = std::move(values);
}

int SparseMatrix::log_height() const {
  int log = 0;
  while (1 << log < height_) ++log;
  return log;
}

Panels::Panels(const SparseMatrix& matrix, const std::vector<std::int32_t>& panel_of,
               const std::vector<std::int32_t>& offset_of, const std::vector<std::int32_t>& moved) {
  const int blocks = matrix.blocks(), height = matrix.height();
  count = panel_of.empty() ? 1 : panel_of.back() + 1;
  const std::size_t width = static_cast<std::size_t>(blocks) + 1;
  starts.assign(static_cast<std::size_t>(count) * width, 0);
  const auto& columns = matrix.columns_of();
  const auto column = [&](int block, int at) { return columns[at] + (moved.empty() ? 0 : moved[block]); };

  // Blocks per panel and row, then where each begins, then the blocks themselves.
  for (int block = 0; block < blocks; ++block)
    for (int at = matrix.starts()[block]; at < matrix.starts()[block + 1]; ++at)
      ++starts[panel_of[column(block, at)] * width + block + 1];
  std::int32_t before = 0;
  for (int panel = 0; panel < count; ++panel) {
    std::int32_t* row = starts.data() + panel * width;
    row[0] = before;
    for (int block = 0; block < blocks; ++block) row[block + 1] += row[block];
    before = row[blocks];
  }
  offsets.resize(columns.size());
  values.resize(matrix.values().size());
  std::vector<std::int32_t> next(static_cast<std::size_t>(count) * width);
  std::copy(starts.begin(), starts.end(), next.begin());
  for (int block = 0; block < blocks; ++block)
    for (int at = matrix.starts()[block]; at < matrix.starts()[block + 1]; ++at) {
      const int which = column(block, at);
      const std::int32_t to = next[panel_of[which] * width + block]++;
      offsets[to] = offset_of[which];
      std::copy_n(matrix.values().begin() + static_cast<std::ptrdiff_t>(at) * height, height,
                  values.begin() + static_cast<std::ptrdiff_t>(to) * height);
    }
}

}  // namespace prunus
