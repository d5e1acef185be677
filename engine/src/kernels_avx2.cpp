#define PRUNUS_ISA avx2
#include "vector_avx2.h"

#include "kernels.h"

namespace prunus::avx2 {
using Vec = Vec8;
template <int HEIGHT>
struct Block {
  using W = Vec8;
  static constexpr bool as_vectors = HEIGHT >= 8;
};
template <>
struct Block<4> {
  using W = Vec4;
  static constexpr bool as_vectors = true;
};
}  // namespace prunus::avx2

#include "kernels.inl"

namespace prunus {
const Kernels* avx2_kernels() {
  static const Kernels table = avx2::made("avx2");
  return &table;
}
}  // namespace prunus
