// Long short-term memory from two linear layers: what the inputs add to the gates, for all
// times at once, and what the state adds, one time after the other.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "program.h"

namespace prunus {
namespace {

class Lstm final : public Step {
 public:
  Lstm(std::int64_t times, std::int64_t batch, std::shared_ptr<const SparseMatrix> input,
       std::shared_ptr<const SparseMatrix> recurrent, std::vector<float> bias)
      : times_(times), batch_(batch), units_(recurrent->columns()), inputs_(input->columns()) {
    constexpr std::int64_t most = 1 << 20;
    if (times < 1 || times > most || batch < 1 || batch > most || times * batch > most)
      throw std::invalid_argument("times and batch must be at least 1 and their product at most 2^20.");
    if (input->rows() != 4 * units_ || recurrent->rows() != 4 * units_)
      throw std::invalid_argument("both weights must have four rows per unit, " +
                                  std::to_string(4 * units_) + ", got " + std::to_string(input->rows()) +
                                  " and " + std::to_string(recurrent->rows()) + ".");
    input_ = make_linear(times * batch, std::move(input), {std::move(bias)});
    recurrent_ = make_linear(batch, std::move(recurrent), {});
    gates_ = Memory(static_cast<std::size_t>(times * batch * 4 * units_));
    sums_ = Memory(static_cast<std::size_t>(batch * 4 * units_));
    cell_ = Memory(static_cast<std::size_t>(batch * units_));
  }

  std::int64_t reads() const override { return times_ * batch_ * inputs_; }
  std::int64_t writes() const override { return times_ * batch_ * units_; }
  std::size_t scratch() const override { return std::max(input_->scratch(), recurrent_->scratch()); }
  std::vector<Tuning> candidates(const Kernels& kernels) const override {
    return recurrent_->candidates(kernels);
  }
  void tune(const Tuning& tuning, const Kernels& kernels) override {
    input_->tune({}, kernels);
    recurrent_->tune(tuning, kernels);
  }

  void run(const Context& context, const float* x, const float*, float* y) override {
    input_->run(context, x, nullptr, gates_.data());
    std::memset(cell_.data(), 0, static_cast<std::size_t>(batch_ * units_) * sizeof(float));
    for (std::int64_t time = 0; time < times_; ++time) {
      const float* sums = gates_.data() + time * batch_ * 4 * units_;
      float* state = y + time * batch_ * units_;
      if (time) {  // the state before the first is zero
        recurrent_->run(context, state - batch_ * units_, sums, sums_.data());
        sums = sums_.data();
      }
      for (std::int64_t n = 0; n < batch_; ++n)
        context.kernels->lstm(sums + n * 4 * units_, cell_.data() + n * units_, state + n * units_,
                              static_cast<int>(units_));
    }
  }

 private:
  std::int64_t times_, batch_, units_, inputs_;
  std::unique_ptr<Step> input_, recurrent_;
  Memory gates_, sums_, cell_;
};

}  // namespace

std::unique_ptr<Step> make_lstm(std::int64_t times, std::int64_t batch,
                                std::shared_ptr<const SparseMatrix> input,
                                std::shared_ptr<const SparseMatrix> recurrent, std::vector<float> bias) {
  return std::make_unique<Lstm>(times, batch, std::move(input), std::move(recurrent), std::move(bias));
}

}  // namespace prunus
