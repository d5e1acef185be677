#include "program.h"

#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace prunus {
namespace {

constexpr std::size_t kPage = 4096, kHuge = std::size_t{2} << 20;
constexpr std::size_t kSlack = 16;
constexpr std::size_t kPiece = (std::size_t{4} << 20) - kSlack;  // floats: sixteen MiB in all

const Kernels* chosen(const std::string& instructions) {
  if (instructions.empty()) return &best_kernels();
  if (const Kernels* found = kernels_named(instructions.c_str())) return found;
  throw std::invalid_argument("instructions must be those that this processor has, of avx512, avx2, "
                              "neon and portable; got '" + instructions + "'.");
}

// What the calling thread computed, which neighbours on a busy machine do not lengthen.
double now_ms(bool alone) {
  timespec spec;
  clock_gettime(alone ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &spec);
  return 1e3 * static_cast<double>(spec.tv_sec) + 1e-6 * static_cast<double>(spec.tv_nsec);
}

}  // namespace

void Ending::check(std::int64_t rows) const {
  if (!bias.empty() && static_cast<std::int64_t>(bias.size()) != rows)
    throw std::invalid_argument("the bias must have " + std::to_string(rows) + " entries, got " +
                                std::to_string(bias.size()) + ".");
}

Epilogue Ending::epilogue() const { return {bias.empty() ? nullptr : bias.data(), activation, low, high}; }

Memory::Memory(std::size_t floats) : size_(floats) {
  if (!floats) return;
  const std::size_t bytes = (floats + kSlack) * sizeof(float);
  const std::size_t page = bytes >= kHuge ? kHuge : kPage;
  const std::size_t whole = (bytes + page - 1) / page * page;
  data_ = static_cast<float*>(std::aligned_alloc(page, whole));
  if (!data_) throw std::bad_alloc();
#ifdef __linux__
  if (page == kHuge) madvise(data_, whole, MADV_HUGEPAGE);
#endif
}

Memory::~Memory() { std::free(data_); }

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Program::Program(int threads, const std::string& instructions)
    : kernels_(chosen(instructions)), pool_(threads), scratch_(static_cast<std::size_t>(threads)) {}

int Program::buffer(std::int64_t floats) {
  // Each begins on a cache line of its own and ends with one to spare.
  const std::size_t whole = (static_cast<std::size_t>(floats) + 2 * kSlack - 1) / kSlack * kSlack;
  if (owned_.empty() || owned_.back().size() - used_ < whole) {
    owned_.emplace_back(std::max(whole, kPiece));
    used_ = 0;
  }
  data_.push_back(owned_.back().data() + used_);
  used_ += whole;
  sizes_.push_back(floats);
  outside_.push_back(false);
  return static_cast<int>(data_.size()) - 1;
}

int Program::outside(std::int64_t floats) {
  data_.push_back(nullptr);
  sizes_.push_back(floats);
  outside_.push_back(true);
  return static_cast<int>(data_.size()) - 1;
}

void Program::check(int buffer) const {
  if (buffer < 0 || buffer >= static_cast<int>(data_.size()))
    throw std::invalid_argument("there is no buffer " + std::to_string(buffer) + ".");
}

void Program::bind(int buffer, float* data) {
  check(buffer);
  if (!outside_[buffer])
    throw std::invalid_argument("buffer " + std::to_string(buffer) + " is the program's own.");
  data_[buffer] = data;
}

void Program::release() {
  for (std::size_t buffer = 0; buffer < data_.size(); ++buffer)
    if (outside_[buffer]) data_[buffer] = nullptr;
}

float* Program::data(int buffer) {
  check(buffer);
  return data_[buffer];
}

std::int64_t Program::size(int buffer) const {
  check(buffer);
  return sizes_[buffer];
}

int Program::add(std::unique_ptr<Step> step, int x, int residual, int y) {
  check(x);
  check(y);
  if (residual >= 0) check(residual);
  const auto wants = [&](int buffer, std::int64_t floats, const char* what) {
    if (sizes_[buffer] < floats)
      throw std::invalid_argument(std::string("the step's ") + what + " is " + std::to_string(floats) +
                                  " floats, but buffer " + std::to_string(buffer) + " has " +
                                  std::to_string(sizes_[buffer]) + ".");
  };
  wants(x, step->reads(), "input");
  wants(y, step->writes(), "output");
  if (residual >= 0) wants(residual, step->writes(), "residual");
  if (x == y || (residual == y && !step->in_place()))
    throw std::invalid_argument("a step cannot write into what it reads.");
  step->tune({}, *kernels_);
  steps_.push_back({std::move(step), x, residual, y});
  return steps() - 1;
}

Program::Placed& Program::at(int step) {
  if (step < 0 || step >= steps())
    throw std::invalid_argument("there is no step " + std::to_string(step) + ".");
  return steps_[step];
}

void Program::call(Placed& placed, std::int64_t image) {
  const std::size_t wanted = placed.step->scratch();
  for (auto& memory : scratch_)
    if (memory.size() < wanted) memory = Memory(wanted);
  const float* x = data_[placed.x];
  const float* residual = placed.residual < 0 ? nullptr : data_[placed.residual];
  float* y = data_[placed.y];
  if (!x || !y || (placed.residual >= 0 && !residual))
    throw std::invalid_argument("a buffer from outside is not bound.");
  placed.step->run({kernels_, &pool_, &scratch_}, x + image * placed.x_apart,
                   residual ? residual + image * placed.residual_apart : nullptr,
                   y + image * placed.y_apart);
}

void Program::spread(int step, std::int64_t x, std::int64_t residual, std::int64_t y) {
  Placed& placed = at(step);
  if (x < 0 || residual < 0 || y < 0)
    throw std::invalid_argument("images must not lie a negative distance apart.");
  placed.x_apart = x;
  placed.residual_apart = residual;
  placed.y_apart = y;
}

void Program::run(int from, int to, int images) {
  if (from < 0 || to > steps() || from > to)
    throw std::invalid_argument("there are " + std::to_string(steps()) + " steps, got " +
                                std::to_string(from) + " to " + std::to_string(to) + ".");
  const auto holds = [&](int buffer, std::int64_t apart, std::int64_t floats) {
    return apart <= (sizes_[buffer] - floats) / std::max(1, images - 1);
  };
  for (int step = from; step < to; ++step) {
    const Placed& one = steps_[step];
    const std::int64_t reads = one.step->reads(), writes = one.step->writes();
    if (images < 1 || !holds(one.x, one.x_apart, reads) || !holds(one.y, one.y_apart, writes) ||
        (one.residual >= 0 && !holds(one.residual, one.residual_apart, writes)))
      throw std::invalid_argument("the buffers of step " + std::to_string(step) + " do not hold " +
                                  std::to_string(images) + " images.");
  }
  for (int image = 0; image < images; ++image)
    for (int step = from; step < to; ++step) call(steps_[step], image);
}

double Program::time(int step, int repeats) {
  Placed& placed = at(step);
  call(placed, 0);
  double best = 1e30;
  for (int repeat = 0; repeat < std::max(1, repeats); ++repeat) {
    const bool alone = pool_.threads() == 1;
    const double begin = now_ms(alone);
    call(placed, 0);
    best = std::min(best, now_ms(alone) - begin);
  }
  return best;
}

std::pair<Tuning, double> Program::measure(int step, int repeats) {
  Placed& placed = at(step);
  std::pair<Tuning, double> best{{}, 1e30};
  for (const Tuning& candidate : placed.step->candidates(*kernels_)) {
    placed.step->tune(candidate, *kernels_);
    const double found = time(step, repeats);
    if (found < best.second) best = {candidate, found};
  }
  if (best.second == 1e30) best.second = time(step, repeats);
  placed.step->tune(best.first, *kernels_);
  return best;
}

void Program::tune(int step, const Tuning& tuning) { at(step).step->tune(tuning, *kernels_); }

}  // namespace prunus
