#define PRUNUS_ISA avx512
#include "vector_avx512.h"
#include "vector_avx2.h"

#include "kernels.h"

namespace prunus::avx512 {
template <int HEIGHT>
struct Block;
template <>
struct Block<16> {
  using W = Vec;
  static constexpr bool as_vectors = true;
};
template <>
struct Block<8> {
  using W = Vec8;
  static constexpr bool as_vectors = true;
};
template <>
struct Block<4> {
  using W = Vec4;
  static constexpr bool as_vectors = true;
};
template <int HEIGHT>
struct Block {
  static constexpr bool as_vectors = false;
};
}  // namespace prunus::avx512

#include "kernels.inl"

namespace prunus::avx512 {
namespace {

bool finite(const float* x, int count) {
  Vec::T nothing = Vec::zero();
  int i = 0;
  for (; i + Vec::lanes <= count; i += Vec::lanes)
    nothing = Vec::fma(Vec::load(x + i), Vec::zero(), nothing);
  nothing = Vec::fma(Vec::load_first(x + i, count - i), Vec::zero(), nothing);
  return _mm512_cmp_ps_mask(nothing, nothing, _CMP_UNORD_Q) == 0;
}

bool slices(const VectorJob& job) {
  if (!finite(job.x, job.columns)) return false;
  for (int slice = job.first; slice < job.last; ++slice) {
    Vec::T sums[4] = {Vec::zero(), Vec::zero(), Vec::zero(), Vec::zero()};
    const auto take = [&](std::ptrdiff_t step, int c) __attribute__((always_inline)) {
      const float* window = job.x + job.offsets[step];
      const __m512i which = _mm512_cvtepu8_epi32(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(job.index + step * Vec::lanes)));
      const Vec::T x =
          _mm512_permutex2var_ps(Vec::load(window), which, Vec::load(window + Vec::lanes));
      sums[c] = Vec::fma(x, Vec::load(job.values + step * Vec::lanes), sums[c]);
    };
    int step = job.starts[slice];
    const int end = job.starts[slice + 1];
    for (; step + 4 <= end; step += 4) {
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) take(step + c, c);
    }
    for (; step < end; ++step) take(step, 0);
    const int row = slice * Vec::lanes, left = job.rows - row;
    const Vec::T sum = Vec::add(Vec::add(sums[0], sums[1]), Vec::add(sums[2], sums[3]));
    Vec::store_first(job.y + row, sum, left < Vec::lanes ? left : Vec::lanes);
  }
  finish_vector<Vec::lanes>(job);
  return true;
}

}  // namespace
}  // namespace prunus::avx512

namespace prunus {
const Kernels* avx512_kernels() {
  static const Kernels table = [] {
    Kernels made = avx512::made("avx512");
    made.slices = avx512::slices;
    return made;
  }();
  return &table;
}
}  // namespace prunus
