// Which kernels run here.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace prunus {

const Kernels* kernels_named(const char* name) {
  if (!std::strcmp(name, "portable")) return portable_kernels();
#ifdef PRUNUS_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!std::strcmp(name, "avx2") && avx2) return avx2_kernels();
  if (!std::strcmp(name, "avx512") && avx2 && __builtin_cpu_supports("avx512f"))
    return avx512_kernels();
#endif
#ifdef PRUNUS_ARM64
  if (!std::strcmp(name, "neon")) return neon_kernels();
#endif
  return nullptr;
}

const Kernels& best_kernels() {
  if (const char* wanted = std::getenv("PRUNUS_ENGINE_ISA"); wanted && *wanted) {
    if (const Kernels* found = kernels_named(wanted)) return *found;
    throw std::invalid_argument(std::string("PRUNUS_ENGINE_ISA must name instructions that this "
                                            "processor has, of avx512, avx2, neon and portable; got '") +
                                wanted + "'.");
  }
  for (const char* name : kInstructions)
    if (const Kernels* found = kernels_named(name)) return *found;
  return *portable_kernels();  // which the last of these are
}

}  // namespace prunus
