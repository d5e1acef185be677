// Sparse matrices: as given, checked, and as kernels read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace prunus {

// Blocks of `height` rows by one column, in compressed rows of blocks. Everything is checked when it
// is made; kernels trust it.
class SparseMatrix {
 public:
  // Throws std::invalid_argument naming what is wrong.
  SparseMatrix(std::int64_t rows, std::int64_t columns, std::int64_t height,
               std::vector<std::int64_t> starts, std::vector<std::int64_t> columns_of,
               std::vector<float> values);

  int rows() const { return rows_; }
  int columns() const { return columns_; }
  int height() const { return height_; }
  int log_height() const;
  int blocks() const { return static_cast<int>(starts_.size()) - 1; }  // rows of blocks
  std::int64_t entries() const { return static_cast<std::int64_t>(columns_of_.size()); }
  const std::vector<std::int32_t>& starts() const { return starts_; }
  const std::vector<std::int32_t>& columns_of() const { return columns_of_; }
  const std::vector<float>& values() const { return values_; }

 private:
  int rows_, columns_, height_;
  std::vector<std::int32_t> starts_, columns_of_;
  std::vector<float> values_;
};

// The same cut into panels of columns, columns replaced by where a kernel finds them.
struct Panels {
  int count = 0;
  std::vector<std::int32_t> starts;   // (count, blocks + 1)
  std::vector<std::int32_t> offsets;  // of each block, in floats
  std::vector<float> values;

  // `panel_of` says in which panel a column is (not falling along columns), `offset_of` where; of a
  // row of blocks `block`, columns are moved by `moved[block]` before (groups of a convolution).
  Panels(const SparseMatrix& matrix, const std::vector<std::int32_t>& panel_of,
         const std::vector<std::int32_t>& offset_of, const std::vector<std::int32_t>& moved);
  Panels() = default;
};

}  // namespace prunus
