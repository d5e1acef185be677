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

namespace prunus {
const Kernels* avx512_kernels() {
  static const Kernels table = avx512::made("avx512");
  return &table;
}
}  // namespace prunus
