// What a set of kernels offers, whatever instructions it is made of.
#pragma once

#include <cstddef>
#include <cstdint>

namespace prunus {

// Block heights along output channels: 1, 2, 4, 8, 16, numbered by their logarithm.
constexpr int kHeights = 5;
// The widest tile, in vectors.
constexpr int kWidest = 8;

enum class Activation : int { none = 0, clip = 1, silu = 2, gelu = 3, gelu_tanh = 4 };

// What becomes of a finished sum.
struct Epilogue {
  const float* bias = nullptr;  // one per output row, or none
  Activation activation = Activation::none;
  float low = 0, high = 0;  // of clip
};

// Rows of a sparse matrix times a panel of a dense one, whose rows are reached by offsets:
//   y[row][i] = sum over entries of value * x[offset + i],  0 <= i < count.
// The entries are cut into panels of columns so that the part of x that one reads stays in the
// nearest cache; sums wait in y meanwhile.
struct RowsJob {
  const std::int32_t* starts = nullptr;   // of panel p and block row b: starts[p*(blocks+1) + b]
  const std::int32_t* offsets = nullptr;  // in floats, one per block
  const float* values = nullptr;          // `height` per block
  int blocks = 0, panels = 0;
  int rows = 0;               // rows of y in all, the last block may reach beyond
  int first = 0, last = 0;    // block rows that are wanted
  int chunk = 1;              // block rows whose sums are kept near while panels pass
  const float* x = nullptr;
  const float* residual = nullptr;  // added to the sums, laid out as y; or none
  float* y = nullptr;
  std::ptrdiff_t stride = 0;  // between the rows of y
  int count = 0;              // of the tile, at most its vectors' lanes
  Epilogue end;
};

// One vector x times block rows; `offsets` are columns. Or times slices: see slices.h, whose windows
// then are the offsets.
struct VectorJob {
  const std::int32_t* starts = nullptr;
  const std::int32_t* offsets = nullptr;
  const std::uint8_t* index = nullptr;  // of slices
  const float* values = nullptr;
  int rows = 0, columns = 0;
  int first = 0, last = 0;
  const float* x = nullptr;
  const float* residual = nullptr;
  float* y = nullptr;
  Epilogue end;
};

// One channel of a depthwise convolution over planes as `Planes` makes them.
struct DepthwiseJob {
  const float* x = nullptr;
  const std::int32_t* offsets = nullptr;  // of the taps
  const float* values = nullptr;
  int taps = 0;
  float* y = nullptr;
  const float* residual = nullptr;
  int count = 0;
  float bias = 0;
  Epilogue end;
};

struct Kernels {
  const char* name;
  int lanes;
  // [log2 of the height][vectors - 1][whether the last vector is cut]; null beyond the registers
  void (*rows[kHeights][kWidest][2])(const RowsJob&);
  int widest[kHeights];
  void (*vector[kHeights])(const VectorJob&);
  // Null where registers cannot be looked things up in. Does nothing and returns false where an entry
  // of x is no finite number: it would spread to rows that idle.
  bool (*slices)(const VectorJob&);
  void (*depthwise)(const DepthwiseJob&);
  // From the sums of the gates (input, output, forget, cell; `units` each) the next cell and state.
  void (*lstm)(const float* gates, float* cell, float* state, int units);
  // Writes the transpose of `from` (rows x columns) to `to`.
  void (*transpose)(const float* from, std::ptrdiff_t from_stride, int rows, int columns, float* to,
                    std::ptrdiff_t to_stride);
  // to[i] = bit i ? from[i] : 0, for a multiple of 16; what has no bit is not read.
  void (*copy_where)(const float* from, const std::uint8_t* bits, float* to, int count);
  // In each of some rows, to[i] = from[2 i] where bit 2 i of `bits` is set, else 0; `count` of them,
  // a multiple of 16, which may reach into the row that is written next.
  void (*every_second)(const float* from, std::ptrdiff_t from_stride, const std::uint8_t* bits,
                       float* to, std::ptrdiff_t to_stride, int count, int rows);
};

// All there are anywhere, the best of a processor first.
constexpr const char* kInstructions[] = {"avx512", "avx2", "neon", "portable"};
// The kernels of such a name, or null where there are none or the processor lacks the instructions.
const Kernels* kernels_named(const char* name);
// The best that the processor has; PRUNUS_ENGINE_ISA in the environment names others.
const Kernels& best_kernels();

const Kernels* portable_kernels();
#ifdef PRUNUS_X86
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
#endif
#ifdef PRUNUS_ARM64
const Kernels* neon_kernels();
#endif

}  // namespace prunus
