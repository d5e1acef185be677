// A program: steps over buffers, run one after the other.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "pool.h"
#include "sparse.h"

namespace prunus {

// Memory whose beginning lies on a page that the kernel may make huge, and a cache line more than was
// asked for at its end.
class Memory {
 public:
  explicit Memory(std::size_t floats = 0);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  float* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  float* data_ = nullptr;
  std::size_t size_ = 0;
};

// How a step is cut; what is best depends on the machine and is found by measuring.
struct Tuning {
  int width = 0;       // vectors of a tile at most; 0: the widest
  int near = 0;        // bytes of a panel; 0: one panel
  int chunk = 0;       // block rows whose sums are kept near; 0: all
  bool packed = false; // copy planes that could be read as they lie
};

struct Context {
  const Kernels* kernels;
  ThreadPool* pool;
  std::vector<Memory>* scratch;  // one per thread
};

class Step {
 public:
  virtual ~Step() = default;
  virtual void run(const Context& context, const float* x, const float* residual, float* y) = 0;
  virtual void tune(const Tuning&, const Kernels&) {}
  virtual std::vector<Tuning> candidates(const Kernels&) const { return {}; }
  // Whether the residual may be the memory that is written: each entry is read before.
  virtual bool in_place() const { return false; }
  virtual std::size_t scratch() const { return 0; }  // floats per thread
  virtual std::int64_t reads() const = 0;            // floats of x, of y
  virtual std::int64_t writes() const = 0;
};

struct Geometry {
  std::int64_t batch = 1, channels = 1, height = 1, width = 1;
  std::int64_t kernel_height = 1, kernel_width = 1;
  std::int64_t stride_height = 1, stride_width = 1;
  std::int64_t top = 0, left = 0, bottom = 0, right = 0;
  std::int64_t dilation_height = 1, dilation_width = 1;
  std::int64_t groups = 1;
};

struct Ending {
  std::vector<float> bias;  // empty for none
  Activation activation = Activation::none;
  float low = 0, high = 0;

  void check(std::int64_t rows) const;  // throws where there is not one bias per row
  Epilogue epilogue() const;            // as kernels take it, while this lives
};

std::unique_ptr<Step> make_conv(const Geometry& geometry, std::shared_ptr<const SparseMatrix> matrix,
                                Ending ending);
std::unique_ptr<Step> make_depthwise(const Geometry& geometry, std::vector<float> weights,
                                     Ending ending);
std::unique_ptr<Step> make_linear(std::int64_t batch, std::shared_ptr<const SparseMatrix> matrix,
                                  Ending ending);
// From a state of zeros; rows of the weights are the input, output, forget and cell gates, as ONNX has
// them, x is (times, batch, inputs) and y (times, batch, units).
std::unique_ptr<Step> make_lstm(std::int64_t times, std::int64_t batch,
                                std::shared_ptr<const SparseMatrix> input,
                                std::shared_ptr<const SparseMatrix> recurrent, std::vector<float> bias);
// The largest, or the average, of each window; for averages, whether padding counts.
std::unique_ptr<Step> make_pooling(const Geometry& geometry, bool average, bool count_padding);

class Program {
 public:
  // Throws std::invalid_argument for instructions that the processor lacks.
  Program(int threads, const std::string& instructions);

  int buffer(std::int64_t floats);    // memory of the program's own
  int outside(std::int64_t floats);   // memory that is bound before each run
  void bind(int buffer, float* data);
  void release();  // unbinds all memory from outside
  float* data(int buffer);
  std::int64_t size(int buffer) const;

  int add(std::unique_ptr<Step> step, int x, int residual, int y);  // residual: -1 for none
  // Of a step on one image of several: how far apart they lie in its buffers, in floats; 0 where all
  // take the same memory one after the other.
  void spread(int step, std::int64_t x, std::int64_t residual, std::int64_t y);
  int steps() const { return static_cast<int>(steps_.size()); }
  // Runs steps for the first image, then for the next: what one step makes of an image is still near
  // when the next one reads it, which it would not be after all images.
  void run(int from, int to, int images);

  // Milliseconds of a step as it is, the shortest of `repeats`.
  double time(int step, int repeats);
  // Measures the ways to cut a step and leaves it with the fastest.
  std::pair<Tuning, double> measure(int step, int repeats);
  void tune(int step, const Tuning& tuning);
  const char* instructions() const { return kernels_->name; }

 private:
  struct Placed {
    std::unique_ptr<Step> step;
    int x, residual, y;
    std::int64_t x_apart = 0, residual_apart = 0, y_apart = 0;
  };
  void call(Placed& placed, std::int64_t image);
  Placed& at(int step);
  void check(int buffer) const;

  const Kernels* kernels_;
  ThreadPool pool_;
  // Buffers lie in few large pieces of memory, which huge pages suit; `used_` of the last is taken.
  std::vector<Memory> owned_, scratch_;
  std::size_t used_ = 0;
  std::vector<float*> data_;
  std::vector<std::int64_t> sizes_;
  std::vector<bool> outside_;
  std::vector<Placed> steps_;
};

}  // namespace prunus
