#define PRUNUS_ISA portable
#include "vector_portable.h"

#include "kernels.h"

namespace prunus::portable {
using Vec = Plain<8>;
template <int HEIGHT>
struct Block {
  using W = Plain<4>;
  static constexpr bool as_vectors = HEIGHT >= 4;
};
}  // namespace prunus::portable

#include "kernels.inl"

namespace prunus {
const Kernels* portable_kernels() {
  static const Kernels table = portable::made("portable");
  return &table;
}
}  // namespace prunus
