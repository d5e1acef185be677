// Four floats of AArch64's NEON, which every such processor has, and two of the lower half.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace prunus::neon {

struct Vec {
  using T = float32x4_t;
  static constexpr int lanes = 4;
  static constexpr int registers = 32;
  // Whether a multiply-add takes `one_of` four without an instruction more.
  static constexpr bool takes_lanes = true;

  static T zero() { return vdupq_n_f32(0); }
  static T all(float x) { return vdupq_n_f32(x); }
  static T load(const float* p) { return vld1q_f32(p); }
  // Four floats, over and over; and one of these in all places.
  static T four(const float* p) { return vld1q_f32(p); }
  static T one_of(T x, int i) {
    return i == 0   ? vdupq_laneq_f32(x, 0)
           : i == 1 ? vdupq_laneq_f32(x, 1)
           : i == 2 ? vdupq_laneq_f32(x, 2)
                    : vdupq_laneq_f32(x, 3);
  }
  // What is not asked for is not read here and below: it may lie beyond the memory there is.
  static T load_first(const float* p, int n) {
    if (n == 4) return load(p);
    if (n == 1) return vsetq_lane_f32(*p, zero(), 0);
    const T two = vcombine_f32(vld1_f32(p), vdup_n_f32(0));
    return n == 2 ? two : vld1q_lane_f32(p + 2, two, 2);
  }
  // What has a bit, of those from bit `at` on; the rest is zero.
  static T load_where(const float* p, const std::uint8_t* b, int at) {
    const int bits = b[at / 8] >> at % 8 & 15;
    if (bits == 15) return load(p);
    T x = zero();
    if (bits & 1) x = vld1q_lane_f32(p, x, 0);
    if (bits & 2) x = vld1q_lane_f32(p + 1, x, 1);
    if (bits & 4) x = vld1q_lane_f32(p + 2, x, 2);
    if (bits & 8) x = vld1q_lane_f32(p + 3, x, 3);
    return x;
  }
  static void store(float* p, T x) { vst1q_f32(p, x); }
  static void store_first(float* p, T x, int n) {
    if (n == 4) return store(p, x);
    if (n == 1) return vst1q_lane_f32(p, x, 0);
    vst1_f32(p, vget_low_f32(x));
    if (n == 3) vst1q_lane_f32(p + 2, x, 2);
  }
  static T add(T a, T b) { return vaddq_f32(a, b); }
  static T sub(T a, T b) { return vsubq_f32(a, b); }
  static T mul(T a, T b) { return vmulq_f32(a, b); }
  static T div(T a, T b) { return vdivq_f32(a, b); }
  static T fma(T a, T b, T c) { return vfmaq_f32(c, a, b); }
  // Both return their second operand where one is NaN, which so passes through. FMAX and FMIN return
  // NaN for either, FMAXNM and FMINNM the number.
  static T at_least(T low, T x) { return vbslq_f32(vcgtq_f32(low, x), low, x); }
  static T at_most(T high, T x) { return vbslq_f32(vcltq_f32(high, x), high, x); }
  static T absolute(T x) { return vabsq_f32(x); }
  static T with_sign(T x, T sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, x); }
  static T round(T x) { return vrndnq_f32(x); }
  static T power_of_two(T n) {
    const int32x4_t biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(biased, 23));
  }
  static T evens(T a, T b) { return vuzp1q_f32(a, b); }

  // Transposes 4 x 4: pairs, then halves of the registers change places.
  static void transpose(T (&r)[4]) {
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1]));
    const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3]));
    const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
    r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    r[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    r[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
  }
};

struct Vec2 {
  using T = float32x2_t;
  static constexpr int lanes = 2;

  static T zero() { return vdup_n_f32(0); }
  static T all(float x) { return vdup_n_f32(x); }
  static T load(const float* p) { return vld1_f32(p); }
  static void store(float* p, T x) { vst1_f32(p, x); }
  static T add(T a, T b) { return vadd_f32(a, b); }
  static T fma(T a, T b, T c) { return vfma_f32(c, a, b); }
};

}  // namespace prunus::neon
