// Eight floats of AVX2 with FMA, and four of its lower half.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#ifndef PRUNUS_ISA
#error "PRUNUS_ISA names the instruction set's namespace"
#endif

namespace prunus::PRUNUS_ISA {

struct Vec8 {
  using T = __m256;
  static constexpr int lanes = 8;
  static constexpr int registers = 16;
  // Whether a multiply-add takes `one_of` four without an instruction more.
  static constexpr bool takes_lanes = false;

  static __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m256i bits(const std::uint8_t* from) {
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(*from), each), each);
  }

  static T zero() { return _mm256_setzero_ps(); }
  static T all(float x) { return _mm256_set1_ps(x); }
  static T load(const float* p) { return _mm256_loadu_ps(p); }
  // Four floats, over and over; and one of these in all places.
  static T four(const float* p) { return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p)); }
  static T one_of(T x, int i) {
    return i == 0   ? _mm256_permute_ps(x, 0x00)
           : i == 1 ? _mm256_permute_ps(x, 0x55)
           : i == 2 ? _mm256_permute_ps(x, 0xAA)
                    : _mm256_permute_ps(x, 0xFF);
  }
  static T load_first(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
  // What has a bit, of those from bit `at` on; the rest is zero and not read.
  static T load_where(const float* p, const std::uint8_t* b, int at) {
    return _mm256_maskload_ps(p, bits(b + at / 8));
  }
  static void store(float* p, T x) { _mm256_storeu_ps(p, x); }
  static void store_first(float* p, T x, int n) { _mm256_maskstore_ps(p, first(n), x); }
  static T add(T a, T b) { return _mm256_add_ps(a, b); }
  static T sub(T a, T b) { return _mm256_sub_ps(a, b); }
  static T mul(T a, T b) { return _mm256_mul_ps(a, b); }
  static T div(T a, T b) { return _mm256_div_ps(a, b); }
  static T fma(T a, T b, T c) { return _mm256_fmadd_ps(a, b, c); }
  // Both return their second operand where one is NaN, which so passes through.
  static T at_least(T low, T x) { return _mm256_max_ps(low, x); }
  static T at_most(T high, T x) { return _mm256_min_ps(high, x); }
  static T absolute(T x) { return _mm256_andnot_ps(all(-0.0f), x); }
  static T with_sign(T x, T sign) {
    return _mm256_or_ps(_mm256_andnot_ps(all(-0.0f), x), _mm256_and_ps(all(-0.0f), sign));
  }
  static T round(T x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static T power_of_two(T n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
  }
  static T evens(T a, T b) {
    const __m256d mixed = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(mixed, 0xD8));
  }

  // Transposes 8 x 8: pairs, quadruples, then halves of the registers change places.
  static void transpose(T (&r)[8]) {
    T t[8];
    for (int i = 0; i < 4; ++i) {
      t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
      t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
      r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
      r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
      r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
      r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
    }
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x20);
      t[4 + i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x31);
    }
    for (int i = 0; i < 8; ++i) r[i] = t[i];
  }
};

struct Vec4 {
  using T = __m128;
  static constexpr int lanes = 4;

  static T zero() { return _mm_setzero_ps(); }
  static T all(float x) { return _mm_set1_ps(x); }
  static T load(const float* p) { return _mm_loadu_ps(p); }
  static void store(float* p, T x) { _mm_storeu_ps(p, x); }
  static T add(T a, T b) { return _mm_add_ps(a, b); }
  static T fma(T a, T b, T c) { return _mm_fmadd_ps(a, b, c); }
};

}  // namespace prunus::PRUNUS_ISA
