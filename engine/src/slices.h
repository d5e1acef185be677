// Single weights for one vector, sixteen rows at a time, where registers can be looked things up in.
#pragma once

#include <cstdint>
#include <vector>

#include "program.h"

namespace prunus {

// In each step every row of a slice takes at most one weight, and all of them read `kWindow` entries
// of x that follow each other: what each reads is a number below that. A row that has no weight
// there idles with the value 0.
struct Slices {
  static constexpr int kRows = 16, kWindow = 32;

  std::vector<std::int32_t> starts;  // the first step of each slice, and the end
  std::vector<std::int32_t> windows; // where each step's begins
  std::vector<std::uint8_t> index;   // of each row in it
  Memory values;

  Slices() = default;
  // Of single weights and at least kWindow columns. Empty where most rows would idle.
  explicit Slices(const SparseMatrix& matrix);

  int count() const { return starts.empty() ? 0 : static_cast<int>(starts.size()) - 1; }
};

}  // namespace prunus
