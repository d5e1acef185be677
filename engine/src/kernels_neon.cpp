#define PRUNUS_ISA neon
#include "vector_neon.h"

#include "kernels.h"

namespace prunus::neon {
template <int HEIGHT>
struct Block {
  using W = Vec;
  static constexpr bool as_vectors = HEIGHT >= 4;
};
template <>
struct Block<2> {
  using W = Vec2;
  static constexpr bool as_vectors = true;
};
}  // namespace prunus::neon

#include "kernels.inl"

namespace prunus {
const Kernels* neon_kernels() {
  static const Kernels table = neon::made("neon");
  return &table;
}
}  // namespace prunus
