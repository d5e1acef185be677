// Pooling over channel planes.
#include <algorithm>
#include <limits>
#include <stdexcept>

#include "planes.h"
#include "program.h"

namespace prunus {
namespace {

class Pooling final : public Step {
 public:
  Pooling(const Geometry& geometry, bool average, bool count_padding)
      : geometry_(geometry), planes_(geometry), average_(average), count_padding_(count_padding) {
    if (geometry.top >= geometry.kernel_height || geometry.left >= geometry.kernel_width)
      throw std::invalid_argument("the padding of a pooling must be smaller than its window.");
  }

  std::int64_t reads() const override {
    return geometry_.batch * geometry_.channels * geometry_.height * geometry_.width;
  }
  std::int64_t writes() const override {
    return geometry_.batch * geometry_.channels * static_cast<std::int64_t>(planes_.outputs());
  }

  void run(const Context& context, const float* x, const float*, float* y) override {
    const std::int64_t in = geometry_.height * geometry_.width, out = planes_.outputs();
    constexpr int kTogether = 8;
    const int planes = static_cast<int>(geometry_.batch * geometry_.channels);
    context.pool->share((planes + kTogether - 1) / kTogether, [&](int task, int) {
      const int end = std::min(planes, (task + 1) * kTogether);
      for (int plane = task * kTogether; plane < end; ++plane) pool(x + plane * in, y + plane * out);
    });
  }

 private:
  void pool(const float* x, float* y) const {
    const Geometry& g = geometry_;
    for (int row = 0; row < planes_.out_height(); ++row)
      for (int column = 0; column < planes_.out_width(); ++column) {
        const std::int64_t top = row * g.stride_height - g.top, left = column * g.stride_width - g.left;
        float found = average_ ? 0.0f : -std::numeric_limits<float>::infinity();
        int count = 0;
        for (std::int64_t j = 0; j < g.kernel_height; ++j) {
          const std::int64_t at = top + j * g.dilation_height;
          if (at < 0 || at >= g.height) continue;
          for (std::int64_t k = 0; k < g.kernel_width; ++k) {
            const std::int64_t across = left + k * g.dilation_width;
            if (across < 0 || across >= g.width) continue;
            const float value = x[at * g.width + across];
            ++count;
            if (average_)
              found += value;
            else if (value > found || value != value)
              found = value;
          }
        }
        const auto window = static_cast<int>(g.kernel_height * g.kernel_width);
        if (average_) found /= static_cast<float>(count_padding_ ? window : count);
        y[row * planes_.out_width() + column] = found;
      }
  }

  Geometry geometry_;
  Planes planes_;
  bool average_, count_padding_;
};

}  // namespace

std::unique_ptr<Step> make_pooling(const Geometry& geometry, bool average, bool count_padding) {
  return std::make_unique<Pooling>(geometry, average, count_padding);
}

}  // namespace prunus
