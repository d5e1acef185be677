// Sixteen floats of AVX-512F.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace prunus::avx512 {

struct Vec {
  using T = __m512;
  static constexpr int lanes = 16;
  static constexpr int registers = 32;
  // Whether a multiply-add takes `one_of` four without an instruction more.
  static constexpr bool takes_lanes = false;

  static __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1); }
  static __mmask16 bits(const std::uint8_t* from) {
    std::uint16_t found;
    std::memcpy(&found, from, 2);
    return found;
  }

  static T zero() { return _mm512_setzero_ps(); }
  static T all(float x) { return _mm512_set1_ps(x); }
  static T load(const float* p) { return _mm512_loadu_ps(p); }
  // Four floats, over and over; and one of these in all places.
  static T four(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
  static T one_of(T x, int i) {
    return i == 0   ? _mm512_permute_ps(x, 0x00)
           : i == 1 ? _mm512_permute_ps(x, 0x55)
           : i == 2 ? _mm512_permute_ps(x, 0xAA)
                    : _mm512_permute_ps(x, 0xFF);
  }
  static T load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  // What has a bit, of those from bit `at` on; the rest is zero and not read.
  static T load_where(const float* p, const std::uint8_t* b, int at) {
    return _mm512_maskz_loadu_ps(bits(b + at / 8), p);
  }
  static void store(float* p, T x) { _mm512_storeu_ps(p, x); }
  static void store_first(float* p, T x, int n) { _mm512_mask_storeu_ps(p, first(n), x); }
  static T add(T a, T b) { return _mm512_add_ps(a, b); }
  static T sub(T a, T b) { return _mm512_sub_ps(a, b); }
  static T mul(T a, T b) { return _mm512_mul_ps(a, b); }
  static T div(T a, T b) { return _mm512_div_ps(a, b); }
  static T fma(T a, T b, T c) { return _mm512_fmadd_ps(a, b, c); }
  // Both return their second operand where one is NaN, which so passes through.
  static T at_least(T low, T x) { return _mm512_max_ps(low, x); }
  static T at_most(T high, T x) { return _mm512_min_ps(high, x); }
  static T absolute(T x) { return _mm512_abs_ps(x); }
  static T with_sign(T x, T sign) {
    const __m512i s = _mm512_set1_epi32(static_cast<int>(0x80000000u));
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(s, _mm512_castps_si512(sign),
                                                         _mm512_castps_si512(x), 0xCA));
  }
  static T round(T x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT); }
  static T power_of_two(T n) { return _mm512_scalef_ps(all(1), n); }
  static T evens(T a, T b) {
    const __m512i index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, index, b);
  }

  // Transposes 16 x 16: pairs, quadruples, then quarters of the registers change places.
  static void transpose(T (&r)[16]) {
    T t[16];
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
      t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; ++i) {
      const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
      const __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
      r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
      r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
      r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
      r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
      t[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xDD);
      t[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
      t[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xDD);
    }
    for (int i = 0; i < 4; ++i) {
      r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
      r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xDD);
      r[4 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88);
      r[12 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xDD);
    }
  }
};

}  // namespace prunus::avx512
