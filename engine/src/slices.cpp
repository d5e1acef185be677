#include "slices.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace prunus {

Slices::Slices(const SparseMatrix& matrix) {
  constexpr int kAligned = 16;   // windows begin at lines of the cache
  constexpr int kIdle = 8;       // of one row that works, before single sums are as fast
  const auto& begins = matrix.starts();
  const auto& columns = matrix.columns_of();
  const int rows = matrix.rows(), last = matrix.columns() - kWindow;
  std::vector<float> taken;
  starts.push_back(0);
  for (int first = 0; first < rows; first += kRows) {
    std::array<int, kRows> at{}, end{};
    for (int row = 0; row < std::min(kRows, rows - first); ++row) {
      at[row] = begins[first + row];
      end[row] = begins[first + row + 1];
    }
    while (true) {
      int next = matrix.columns();
      for (int row = 0; row < kRows; ++row)
        if (at[row] < end[row]) next = std::min(next, columns[at[row]]);
      if (next == matrix.columns()) break;
      const int window = std::min(next / kAligned * kAligned, last);
      windows.push_back(window);
      for (int row = 0; row < kRows; ++row) {
        const bool takes = at[row] < end[row] && columns[at[row]] < window + kWindow;
        index.push_back(takes ? static_cast<std::uint8_t>(columns[at[row]] - window) : 0);
        taken.push_back(takes ? matrix.values()[at[row]] : 0);
        at[row] += takes;
      }
    }
    starts.push_back(static_cast<std::int32_t>(windows.size()));
  }
  if (static_cast<std::int64_t>(taken.size()) > kIdle * matrix.entries()) {
    *this = Slices();
    return;
  }
  values = Memory(taken.size());
  if (!taken.empty()) std::memcpy(values.data(), taken.data(), taken.size() * sizeof(float));
}

}  // namespace prunus
