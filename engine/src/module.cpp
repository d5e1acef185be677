// What Python sees. Everything that comes from there is checked here or by the classes it makes.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>

#include "program.h"

namespace nb = nanobind;
using namespace prunus;

namespace {

using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Mutable = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

template <class Array>
auto copied(const Array& array) {
  return std::vector<std::remove_const_t<typename Array::Scalar>>(array.data(),
                                                                  array.data() + array.size());
}

Geometry geometry_of(const std::vector<std::int64_t>& n) {
  if (n.size() != 15)
    throw std::invalid_argument("a geometry is 15 numbers: batch, channels, height, width, kernel (2), "
                                "strides (2), padding (top, left, bottom, right), dilations (2), groups.");
  return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12], n[13], n[14]};
}

Ending ending_of(const Floats& bias, const std::string& activation, float low, float high) {
  constexpr const char* names[] = {"none", "clip", "silu", "gelu", "gelu_tanh"};
  for (int i = 0; i < 5; ++i)
    if (activation == names[i]) return {copied(bias), static_cast<Activation>(i), low, high};
  throw std::invalid_argument("activation must be one of none, clip, silu, gelu, gelu_tanh; got '" +
                              activation + "'.");
}

nb::dict as_dict(const Tuning& tuning) {
  nb::dict found;
  found["width"] = tuning.width;
  found["near"] = tuning.near;
  found["chunk"] = tuning.chunk;
  found["packed"] = tuning.packed;
  return found;
}

}  // namespace

NB_MODULE(_engine, m) {
  m.doc() = "Sparse kernels for the CPU.";

  m.def(
      "instructions",
      [] {
        std::vector<std::string> found;
        for (const char* name : kInstructions)
          if (kernels_named(name)) found.emplace_back(name);
        return found;
      },
      "Names of the instruction sets that this processor has kernels for, the best first.");

  nb::class_<SparseMatrix>(m, "SparseMatrix", "A sparse matrix in blocks, checked.")
      .def(
          "__init__",
          [](SparseMatrix* self, std::int64_t rows, std::int64_t columns, std::int64_t height,
             const Numbers& starts, const Numbers& columns_of, const Floats& values) {
            new (self) SparseMatrix(rows, columns, height, copied(starts), copied(columns_of),
                                    copied(values));
          },
          nb::arg("rows"), nb::arg("columns"), nb::arg("height"), nb::arg("starts"),
          nb::arg("columns_of"), nb::arg("values"))
      .def_prop_ro("rows", &SparseMatrix::rows)
      .def_prop_ro("columns", &SparseMatrix::columns)
      .def_prop_ro("height", &SparseMatrix::height)
      .def_prop_ro("entries", &SparseMatrix::entries);

  nb::class_<Program>(m, "Program", "Steps over buffers.")
      .def(
          "__init__",
          [](Program* self, int threads, const std::string& instructions) {
            if (threads < 1 || threads > 1024)
              throw std::invalid_argument("threads must be in [1, 1024], got " +
                                          std::to_string(threads) + ".");
            new (self) Program(threads, instructions);
          },
          nb::arg("threads") = 1, nb::arg("instructions") = "")
      .def_prop_ro("instructions", &Program::instructions)
      .def_prop_ro("steps", &Program::steps)
      .def(
          "buffer",
          [](Program& self, std::int64_t floats, bool outside) {
            constexpr std::int64_t most = std::int64_t{1} << 36;
            if (floats < 1 || floats > most)
              throw std::invalid_argument("a buffer has 1 to 2^36 floats, got " +
                                          std::to_string(floats) + ".");
            return outside ? self.outside(floats) : self.buffer(floats);
          },
          nb::arg("floats"), nb::arg("outside") = false)
      .def(
          "view",
          [](nb::handle self, int buffer) {
            auto& program = nb::cast<Program&>(self);
            float* data = program.data(buffer);
            if (!data) throw std::invalid_argument("a buffer from outside is not bound.");
            const std::size_t shape[] = {static_cast<std::size_t>(program.size(buffer))};
            return nb::ndarray<nb::numpy, float>(data, 1, shape, self);
          },
          nb::arg("buffer"), "The buffer as an array that shares its memory.")
      .def(
          "bind",
          [](Program& self, int buffer, const Mutable& array) {
            if (static_cast<std::int64_t>(array.size()) < self.size(buffer))
              throw std::invalid_argument("the array must have " + std::to_string(self.size(buffer)) +
                                          " numbers, got " + std::to_string(array.size()) + ".");
            self.bind(buffer, array.data());
          },
          nb::arg("buffer"), nb::arg("array").noconvert(),
          "Let a buffer from outside be an array, which must live until the run is over.")
      .def("release", &Program::release, "Forget the arrays that are bound.")
      .def(
          "conv",
          [](Program& self, int x, int residual, int y, const std::vector<std::int64_t>& geometry,
             std::shared_ptr<SparseMatrix> matrix, const Floats& bias, const std::string& activation,
             float low, float high) {
            return self.add(make_conv(geometry_of(geometry), std::move(matrix),
                                      ending_of(bias, activation, low, high)),
                            x, residual, y);
          },
          nb::arg("x"), nb::arg("residual"), nb::arg("y"), nb::arg("geometry"), nb::arg("matrix"),
          nb::arg("bias"), nb::arg("activation") = "none", nb::arg("low") = 0.0f, nb::arg("high") = 0.0f)
      .def(
          "depthwise",
          [](Program& self, int x, int residual, int y, const std::vector<std::int64_t>& geometry,
             const Floats& weights, const Floats& bias, const std::string& activation, float low,
             float high) {
            return self.add(make_depthwise(geometry_of(geometry), copied(weights),
                                           ending_of(bias, activation, low, high)),
                            x, residual, y);
          },
          nb::arg("x"), nb::arg("residual"), nb::arg("y"), nb::arg("geometry"), nb::arg("weights"),
          nb::arg("bias"), nb::arg("activation") = "none", nb::arg("low") = 0.0f, nb::arg("high") = 0.0f)
      .def(
          "linear",
          [](Program& self, int x, int residual, int y, std::int64_t batch,
             std::shared_ptr<SparseMatrix> matrix, const Floats& bias, const std::string& activation,
             float low, float high) {
            return self.add(
                make_linear(batch, std::move(matrix), ending_of(bias, activation, low, high)), x,
                residual, y);
          },
          nb::arg("x"), nb::arg("residual"), nb::arg("y"), nb::arg("batch"), nb::arg("matrix"),
          nb::arg("bias"), nb::arg("activation") = "none", nb::arg("low") = 0.0f, nb::arg("high") = 0.0f)
      .def(
          "lstm",
          [](Program& self, int x, int y, std::int64_t times, std::int64_t batch,
             std::shared_ptr<SparseMatrix> input, std::shared_ptr<SparseMatrix> recurrent,
             const Floats& bias) {
            return self.add(
                make_lstm(times, batch, std::move(input), std::move(recurrent), copied(bias)), x, -1, y);
          },
          nb::arg("x"), nb::arg("y"), nb::arg("times"), nb::arg("batch"), nb::arg("input"),
          nb::arg("recurrent"), nb::arg("bias"))
      .def(
          "pooling",
          [](Program& self, int x, int y, const std::vector<std::int64_t>& geometry, bool average,
             bool count_padding) {
            return self.add(make_pooling(geometry_of(geometry), average, count_padding), x, -1, y);
          },
          nb::arg("x"), nb::arg("y"), nb::arg("geometry"), nb::arg("average"),
          nb::arg("count_padding") = false)
      .def("spread", &Program::spread, nb::arg("step"), nb::arg("x"), nb::arg("residual"), nb::arg("y"),
           "Say how far apart, in floats, images lie in the buffers of a step on one of them.")
      .def("run", &Program::run, nb::arg("begin"), nb::arg("end"), nb::arg("images") = 1,
           nb::call_guard<nb::gil_scoped_release>())
      .def("time", &Program::time, nb::arg("step"), nb::arg("repeats") = 3,
           nb::call_guard<nb::gil_scoped_release>(), "Milliseconds of a step, the shortest of some.")
      .def(
          "measure",
          [](Program& self, int step, int repeats) {
            std::pair<Tuning, double> best;
            {
              const nb::gil_scoped_release release;
              best = self.measure(step, repeats);
            }
            return nb::make_tuple(as_dict(best.first), best.second);
          },
          nb::arg("step"), nb::arg("repeats") = 3,
          "Cut a step in the way that is fastest here: how, and its milliseconds.")
      .def(
          "tune",
          [](Program& self, int step, int width, int near, int chunk, bool packed) {
            if (width < 0 || near < 0 || chunk < 0)
              throw std::invalid_argument("width, near and chunk must not be negative.");
            self.tune(step, {width, near, chunk, packed});
          },
          nb::arg("step"), nb::arg("width") = 0, nb::arg("near") = 0, nb::arg("chunk") = 0,
          nb::arg("packed") = false);
}
