// Plain C++ that runs everywhere; compilers make of it what the processor has at least.
#pragma once

#include <cmath>
#include <cstdint>

#ifndef PRUNUS_ISA
#error "PRUNUS_ISA names the instruction set's namespace"
#endif

namespace prunus::PRUNUS_ISA {

template <int N>
struct Plain {
  struct T {
    float at[N];
  };
  static constexpr int lanes = N;
  static constexpr int registers = 16;
  // Whether a multiply-add takes `one_of` four without an instruction more.
  static constexpr bool takes_lanes = false;

  template <class F>
  static T each(F f) {
    T out;
    for (int i = 0; i < N; ++i) out.at[i] = f(i);
    return out;
  }

  static T zero() { return all(0); }
  static T all(float x) {
    return each([=](int) { return x; });
  }
  static T load(const float* p) {
    return each([=](int i) { return p[i]; });
  }
  // Four floats, over and over; and one of these in all places.
  static T four(const float* p) {
    return each([=](int i) { return p[i % 4]; });
  }
  static T one_of(T x, int which) { return all(x.at[which]); }
  static T load_first(const float* p, int n) {
    return each([=](int i) { return i < n ? p[i] : 0.0f; });
  }
  // What has a bit, of those from bit `at` on; the rest is zero and not read.
  static T load_where(const float* p, const std::uint8_t* b, int at) {
    return each([=](int i) { return (b[(at + i) / 8] >> (at + i) % 8) & 1 ? p[i] : 0.0f; });
  }
  static void store(float* p, T x) {
    for (int i = 0; i < N; ++i) p[i] = x.at[i];
  }
  static void store_first(float* p, T x, int n) {
    for (int i = 0; i < N; ++i)
      if (i < n) p[i] = x.at[i];
  }
  static T add(T a, T b) {
    return each([&](int i) { return a.at[i] + b.at[i]; });
  }
  static T sub(T a, T b) {
    return each([&](int i) { return a.at[i] - b.at[i]; });
  }
  static T mul(T a, T b) {
    return each([&](int i) { return a.at[i] * b.at[i]; });
  }
  static T div(T a, T b) {
    return each([&](int i) { return a.at[i] / b.at[i]; });
  }
  static T fma(T a, T b, T c) {
    return each([&](int i) { return a.at[i] * b.at[i] + c.at[i]; });
  }
  static T at_least(T low, T x) {
    return each([&](int i) { return low.at[i] > x.at[i] ? low.at[i] : x.at[i]; });
  }
  static T at_most(T high, T x) {
    return each([&](int i) { return high.at[i] < x.at[i] ? high.at[i] : x.at[i]; });
  }
  static T absolute(T x) {
    return each([&](int i) { return std::fabs(x.at[i]); });
  }
  static T with_sign(T x, T sign) {
    return each([&](int i) { return std::copysign(x.at[i], sign.at[i]); });
  }
  static T round(T x) {
    return each([&](int i) { return std::nearbyint(x.at[i]); });
  }
  static T power_of_two(T n) {
    return each([&](int i) { return std::exp2(n.at[i]); });
  }
  static T evens(T a, T b) {
    return each([&](int i) { return i < N / 2 ? a.at[2 * i] : b.at[2 * i - N]; });
  }
  static void transpose(T (&r)[N]) {
    for (int i = 0; i < N; ++i)
      for (int k = 0; k < i; ++k) {
        const float held = r[i].at[k];
        r[i].at[k] = r[k].at[i];
        r[k].at[i] = held;
      }
  }
};

}  // namespace prunus::PRUNUS_ISA
