// The kernels, written once over a vector `Vec` (and `Block<height>`, the vectors of one block of a
// matrix) and compiled once per instruction set, in a namespace of its own: the linker must never
// take one set's code for another's. For that reason nothing of the standard library is called here.

#define PRUNUS_INLINE inline __attribute__((always_inline))

namespace prunus::PRUNUS_ISA {
namespace {

// e^x to 2 ulp on what a float can hold, saturating beyond; NaN stays. The exponent's nearest whole
// number is split off and a polynomial takes the rest (Cephes, expf).
inline Vec::T exponential(Vec::T x) {
  x = Vec::at_most(Vec::all(88.3762626f), Vec::at_least(Vec::all(-87.3365478f), x));
  const Vec::T n = Vec::round(Vec::mul(x, Vec::all(1.44269504f)));
  Vec::T r = Vec::fma(n, Vec::all(-0.693359375f), x);
  r = Vec::fma(n, Vec::all(2.12194440e-4f), r);
  Vec::T p = Vec::all(1.9875691500e-4f);
  p = Vec::fma(p, r, Vec::all(1.3981999507e-3f));
  p = Vec::fma(p, r, Vec::all(8.3334519073e-3f));
  p = Vec::fma(p, r, Vec::all(4.1665795894e-2f));
  p = Vec::fma(p, r, Vec::all(1.6666665459e-1f));
  p = Vec::fma(p, r, Vec::all(5.0000001201e-1f));
  p = Vec::add(Vec::fma(Vec::mul(p, r), r, r), Vec::all(1));
  return Vec::mul(p, Vec::power_of_two(n));
}

inline Vec::T sigmoid(Vec::T x) {
  const Vec::T one = Vec::all(1);
  return Vec::div(one, Vec::add(one, exponential(Vec::sub(Vec::zero(), x))));
}

// The error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26).
inline Vec::T error_function(Vec::T x) {
  const Vec::T a = Vec::absolute(x), one = Vec::all(1);
  const Vec::T t = Vec::div(one, Vec::fma(Vec::all(0.3275911f), a, one));
  Vec::T p = Vec::all(1.061405429f);
  p = Vec::fma(p, t, Vec::all(-1.453152027f));
  p = Vec::fma(p, t, Vec::all(1.421413741f));
  p = Vec::fma(p, t, Vec::all(-0.284496736f));
  p = Vec::fma(p, t, Vec::all(0.254829592f));
  const Vec::T e = exponential(Vec::sub(Vec::zero(), Vec::mul(a, a)));
  return Vec::with_sign(Vec::sub(one, Vec::mul(Vec::mul(p, t), e)), x);
}

inline Vec::T curve(Vec::T x, Activation which) {
  switch (which) {
    case Activation::silu:
      return Vec::mul(x, sigmoid(x));
    case Activation::gelu: {
      const Vec::T e = error_function(Vec::mul(x, Vec::all(0.70710678f)));
      return Vec::mul(Vec::mul(Vec::all(0.5f), x), Vec::add(Vec::all(1), e));
    }
    case Activation::gelu_tanh: {
      // x * (1 + tanh(z)) / 2 is x * sigmoid(2 z)
      const Vec::T cubic = Vec::mul(Vec::mul(x, x), Vec::mul(x, Vec::all(0.044715f)));
      return Vec::mul(x, sigmoid(Vec::mul(Vec::all(1.59576912f), Vec::add(x, cubic))));
    }
    default:
      return x;
  }
}

// Activations beyond a clip are put on what is stored: they are rare, and too long for each kernel.
__attribute__((noinline)) void bend(float* y, int count, Activation which) {
  int i = 0;
  for (; i + Vec::lanes <= count; i += Vec::lanes) Vec::store(y + i, curve(Vec::load(y + i), which));
  if (i < count) {
    const int left = count - i;
    Vec::store_first(y + i, curve(Vec::load_first(y + i, left), which), left);
  }
}

template <bool CUT>
PRUNUS_INLINE Vec::T load_last(const float* p, bool last, int left) {
  return CUT && last ? Vec::load_first(p, left) : Vec::load(p);
}

template <bool CUT>
PRUNUS_INLINE void store_last(float* p, Vec::T x, bool last, int left) {
  if (CUT && last)
    Vec::store_first(p, x, left);
  else
    Vec::store(p, x);
}

// ROWS rows of a block of HEIGHT (all, or as many as the registers hold), beginning at `row`, times
// WIDTH vectors. Sums of few registers are kept CHAINS times over, as a multiply-add must not wait
// for the one before it.
template <int HEIGHT, int ROWS, int WIDTH, bool CUT>
PRUNUS_INLINE void rows_of_block(const RowsJob& job, int panel, int block, int part) {
  constexpr int CHAINS = ROWS * WIDTH >= 6 ? 1 : ROWS * WIDTH >= 3 ? 2 : 4;
  const std::int32_t* starts = job.starts + static_cast<std::ptrdiff_t>(panel) * (job.blocks + 1);
  const int row = block * HEIGHT + part;
  const int left = job.count - (WIDTH - 1) * Vec::lanes;
  const int valid = job.rows - row < ROWS ? job.rows - row : ROWS;
  const bool begins = panel == 0, ends = panel == job.panels - 1;
  int entry = starts[block];
  const int end = starts[block + 1];
  if (entry == end && !begins && !ends) return;
  float* y = job.y + row * job.stride;

  Vec::T sums[CHAINS][ROWS][WIDTH];
#pragma GCC unroll 4
  for (int c = 1; c < CHAINS; ++c)
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
      for (int w = 0; w < WIDTH; ++w) sums[c][i][w] = Vec::zero();
  if (begins) {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const Vec::T bias = job.end.bias && i < valid ? Vec::all(job.end.bias[row + i]) : Vec::zero();
#pragma GCC unroll 8
      for (int w = 0; w < WIDTH; ++w) sums[0][i][w] = bias;
    }
    if (job.residual) {
      const float* added = job.residual + row * job.stride;
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; ++i)
        if (i < valid)
#pragma GCC unroll 8
          for (int w = 0; w < WIDTH; ++w)
            sums[0][i][w] = Vec::add(
                sums[0][i][w],
                load_last<CUT>(added + i * job.stride + w * Vec::lanes, w == WIDTH - 1, left));
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
      for (int w = 0; w < WIDTH; ++w)
        sums[0][i][w] = i < valid ? load_last<CUT>(y + i * job.stride + w * Vec::lanes,
                                                   w == WIDTH - 1, left)
                                  : Vec::zero();
  }

  const auto take = [&](int at, int c) __attribute__((always_inline)) {
    const float* x = job.x + job.offsets[at];
    const float* v = job.values + static_cast<std::ptrdiff_t>(at) * HEIGHT + part;
    Vec::T seen[WIDTH];
#pragma GCC unroll 8
    for (int w = 0; w < WIDTH; ++w)
      seen[w] = load_last<CUT>(x + w * Vec::lanes, w == WIDTH - 1, left);
    if constexpr (ROWS % 4 == 0 && (Vec::takes_lanes || (ROWS == 4 && WIDTH == 1))) {
      // Four values with one load: where they are used once each, loads would be what takes the time.
#pragma GCC unroll 4
      for (int four = 0; four < ROWS; four += 4) {
        const Vec::T values = Vec::four(v + four);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
#pragma GCC unroll 8
          for (int w = 0; w < WIDTH; ++w)
            sums[c][four + i][w] = Vec::fma(Vec::one_of(values, i), seen[w], sums[c][four + i][w]);
      }
      return;
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const Vec::T value = Vec::all(v[i]);
#pragma GCC unroll 8
      for (int w = 0; w < WIDTH; ++w) sums[c][i][w] = Vec::fma(value, seen[w], sums[c][i][w]);
    }
  };
  for (; entry + CHAINS <= end; entry += CHAINS) {
#pragma GCC unroll 4
    for (int c = 0; c < CHAINS; ++c) take(entry + c, c);
  }
#pragma GCC unroll 4
  for (int c = 0; c < CHAINS - 1; ++c)
    if (entry + c < end) take(entry + c, c);

#pragma GCC unroll 4
  for (int c = 1; c < CHAINS; ++c)
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
      for (int w = 0; w < WIDTH; ++w) sums[0][i][w] = Vec::add(sums[0][i][w], sums[c][i][w]);
  if (ends && job.end.activation == Activation::clip) {
    const Vec::T low = Vec::all(job.end.low), high = Vec::all(job.end.high);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
      for (int w = 0; w < WIDTH; ++w)
        sums[0][i][w] = Vec::at_most(high, Vec::at_least(low, sums[0][i][w]));
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
    if (i < valid)
#pragma GCC unroll 8
      for (int w = 0; w < WIDTH; ++w)
        store_last<CUT>(y + i * job.stride + w * Vec::lanes, sums[0][i][w], w == WIDTH - 1, left);
  if (ends && job.end.activation > Activation::clip)
    for (int i = 0; i < valid; ++i) bend(y + i * job.stride, job.count, job.end.activation);
}

template <int HEIGHT, int ROWS, int WIDTH, bool CUT>
void rows(const RowsJob& job) {
  for (int from = job.first; from < job.last; from += job.chunk) {
    const int to = from + job.chunk < job.last ? from + job.chunk : job.last;
    for (int panel = 0; panel < job.panels; ++panel)
      for (int block = from; block < to; ++block)
        for (int part = 0; part < HEIGHT && block * HEIGHT + part < job.rows; part += ROWS)
          rows_of_block<HEIGHT, ROWS, WIDTH, CUT>(job, panel, block, part);
  }
}

// A block of HEIGHT rows at a time, held in as many vectors of W as that takes.
template <int HEIGHT, class W>
void vector_blocks(const VectorJob& job) {
  // Two chains where there are registers for four vectors twice: four lanes have 32.
  constexpr int PARTS = HEIGHT / W::lanes, CHAINS = PARTS >= 4 ? 2 : 4 / PARTS;
  for (int block = job.first; block < job.last; ++block) {
    typename W::T sums[CHAINS][PARTS];
#pragma GCC unroll 4
    for (int c = 0; c < CHAINS; ++c)
#pragma GCC unroll 4
      for (int p = 0; p < PARTS; ++p) sums[c][p] = W::zero();
    int entry = job.starts[block];
    const int end = job.starts[block + 1];
    const auto take = [&](int at, int c) __attribute__((always_inline)) {
      const typename W::T x = W::all(job.x[job.offsets[at]]);
      const float* v = job.values + static_cast<std::ptrdiff_t>(at) * HEIGHT;
#pragma GCC unroll 4
      for (int p = 0; p < PARTS; ++p) sums[c][p] = W::fma(x, W::load(v + p * W::lanes), sums[c][p]);
    };
    for (; entry + CHAINS <= end; entry += CHAINS) {
#pragma GCC unroll 4
      for (int c = 0; c < CHAINS; ++c) take(entry + c, c);
    }
    for (; entry < end; ++entry) take(entry, 0);
    float found[HEIGHT];
#pragma GCC unroll 4
    for (int p = 0; p < PARTS; ++p) {
#pragma GCC unroll 4
      for (int c = 1; c < CHAINS; ++c) sums[0][p] = W::add(sums[0][p], sums[c][p]);
      W::store(found + p * W::lanes, sums[0][p]);
    }
    const int row = block * HEIGHT, left = job.rows - row;
    for (int i = 0; i < HEIGHT && i < left; ++i) job.y[row + i] = found[i];
  }
}

// Rows that are too short to be vectors: several sums of single entries.
template <int HEIGHT>
void vector_scalars(const VectorJob& job) {
  constexpr int CHAINS = 8;
  for (int block = job.first; block < job.last; ++block) {
    float sums[CHAINS][HEIGHT] = {};
    int entry = job.starts[block];
    const int end = job.starts[block + 1];
    for (; entry + CHAINS <= end; entry += CHAINS)
      for (int c = 0; c < CHAINS; ++c)
        for (int i = 0; i < HEIGHT; ++i)
          sums[c][i] += job.values[static_cast<std::ptrdiff_t>(entry + c) * HEIGHT + i] *
                        job.x[job.offsets[entry + c]];
    for (; entry < end; ++entry)
      for (int i = 0; i < HEIGHT; ++i)
        sums[0][i] += job.values[static_cast<std::ptrdiff_t>(entry) * HEIGHT + i] *
                      job.x[job.offsets[entry]];
    const int row = block * HEIGHT, left = job.rows - row;
    for (int i = 0; i < HEIGHT && i < left; ++i) {
      for (int half = CHAINS / 2; half > 0; half /= 2)
        for (int c = 0; c < half; ++c) sums[c][i] += sums[c + half][i];
      job.y[row + i] = sums[0][i];
    }
  }
}

// What follows the sums of a vector, over all of its rows at once.
template <int HEIGHT>
void finish_vector(const VectorJob& job) {
  const int from = job.first * HEIGHT;
  const int to = job.last * HEIGHT < job.rows ? job.last * HEIGHT : job.rows;
  for (int i = from; i < to; ++i) {
    float sum = job.y[i];
    if (job.end.bias) sum += job.end.bias[i];
    if (job.residual) sum += job.residual[i];
    if (job.end.activation == Activation::clip) {
      sum = job.end.low > sum ? job.end.low : sum;
      sum = job.end.high < sum ? job.end.high : sum;
    }
    job.y[i] = sum;
  }
  if (job.end.activation > Activation::clip) bend(job.y + from, to - from, job.end.activation);
}

template <int HEIGHT>
void vector_rows(const VectorJob& job) {
  if constexpr (Block<HEIGHT>::as_vectors)
    vector_blocks<HEIGHT, typename Block<HEIGHT>::W>(job);
  else
    vector_scalars<HEIGHT>(job);
  finish_vector<HEIGHT>(job);
}

template <int WIDTH, bool CUT>
PRUNUS_INLINE void depthwise_tile(const DepthwiseJob& job, int at, int left) {
  Vec::T sums[WIDTH];
  for (int w = 0; w < WIDTH; ++w) sums[w] = Vec::all(job.bias);
  for (int tap = 0; tap < job.taps; ++tap) {
    const Vec::T value = Vec::all(job.values[tap]);
    const float* x = job.x + job.offsets[tap] + at;
#pragma GCC unroll 8
    for (int w = 0; w < WIDTH; ++w)
      sums[w] = Vec::fma(value, load_last<CUT>(x + w * Vec::lanes, w == WIDTH - 1, left), sums[w]);
  }
  if (job.residual)
    for (int w = 0; w < WIDTH; ++w)
      sums[w] = Vec::add(sums[w], load_last<CUT>(job.residual + at + w * Vec::lanes,
                                                 w == WIDTH - 1, left));
  if (job.end.activation == Activation::clip) {
    const Vec::T low = Vec::all(job.end.low), high = Vec::all(job.end.high);
    for (int w = 0; w < WIDTH; ++w) sums[w] = Vec::at_most(high, Vec::at_least(low, sums[w]));
  }
#pragma GCC unroll 8
  for (int w = 0; w < WIDTH; ++w)
    store_last<CUT>(job.y + at + w * Vec::lanes, sums[w], w == WIDTH - 1, left);
}

void depthwise(const DepthwiseJob& job) {
  int at = 0;
  for (; at + 8 * Vec::lanes <= job.count; at += 8 * Vec::lanes) depthwise_tile<8, false>(job, at, 0);
  for (; at + Vec::lanes <= job.count; at += Vec::lanes) depthwise_tile<1, false>(job, at, 0);
  if (at < job.count) depthwise_tile<1, true>(job, at, job.count - at);
  if (job.end.activation > Activation::clip) bend(job.y, job.count, job.end.activation);
}

inline Vec::T hyperbolic_tangent(Vec::T x) {
  const Vec::T one = Vec::all(1);
  const Vec::T e = exponential(Vec::add(x, x));
  return Vec::sub(one, Vec::div(Vec::all(2), Vec::add(e, one)));
}

void lstm(const float* gates, float* cell, float* state, int units) {
  for (int i = 0; i < units; i += Vec::lanes) {
    const int left = units - i < Vec::lanes ? units - i : Vec::lanes;
    const auto gate = [&](int which) { return Vec::load_first(gates + which * units + i, left); };
    const Vec::T kept = Vec::mul(sigmoid(gate(2)), Vec::load_first(cell + i, left));
    const Vec::T next = Vec::fma(sigmoid(gate(0)), hyperbolic_tangent(gate(3)), kept);
    Vec::store_first(cell + i, next, left);
    Vec::store_first(state + i, Vec::mul(sigmoid(gate(1)), hyperbolic_tangent(next)), left);
  }
}

// A square of a transpose; `high` of its rows and `wide` of its columns are there.
PRUNUS_INLINE void transpose_square(const float* from, std::ptrdiff_t from_stride, int high, int wide,
                                    float* to, std::ptrdiff_t to_stride) {
  constexpr int L = Vec::lanes;
  Vec::T r[L];
  if (high == L && wide == L) {
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) r[i] = Vec::load(from + i * from_stride);
    Vec::transpose(r);
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) Vec::store(to + i * to_stride, r[i]);
  } else {
    for (int i = 0; i < L; ++i)
      r[i] = i < high ? Vec::load_first(from + i * from_stride, wide) : Vec::zero();
    Vec::transpose(r);
    for (int i = 0; i < wide; ++i) Vec::store_first(to + i * to_stride, r[i], high);
  }
}

void transpose(const float* from, std::ptrdiff_t from_stride, int rows, int columns, float* to,
               std::ptrdiff_t to_stride) {
  constexpr int L = Vec::lanes;
  const auto square = [&](int row, int column) __attribute__((always_inline)) {
    transpose_square(from + row * from_stride + column, from_stride, rows - row < L ? rows - row : L,
                     columns - column < L ? columns - column : L, to + column * to_stride + row,
                     to_stride);
  };
  // Along the rows of the matrix whose rows are further apart: going down it, lines would push each
  // other out of the cache before they are full (five times as slow for rows of 4 KiB).
  if (to_stride > from_stride)
    for (int column = 0; column < columns; column += L)
      for (int row = 0; row < rows; row += L) square(row, column);
  else
    for (int row = 0; row < rows; row += L)
      for (int column = 0; column < columns; column += L) square(row, column);
}

void copy_where(const float* from, const std::uint8_t* bits, float* to, int count) {
  for (int i = 0; i < count; i += Vec::lanes)
    Vec::store(to + i, Vec::load_where(from + i, bits, i));
}

void every_second(const float* from, std::ptrdiff_t from_stride, const std::uint8_t* bits, float* to,
                  std::ptrdiff_t to_stride, int count, int rows) {
  for (int row = 0; row < rows; ++row, from += from_stride, to += to_stride)
    for (int i = 0; i < count; i += Vec::lanes) {
      const Vec::T a = Vec::load_where(from + 2 * i, bits, 2 * i);
      const Vec::T b = Vec::load_where(from + 2 * i + Vec::lanes, bits, 2 * i + Vec::lanes);
      Vec::store(to + i, Vec::evens(a, b));
    }
}

// The widest tile of a height that the registers hold: its sums, what it reads, and a value.
// Sixteen rows would leave no registers for a second vector, with which a value is used twice.
constexpr int rows_at_once(int height) { return height == 16 ? 8 : height; }
constexpr int widest_of(int height) {
  const int rows = rows_at_once(height);
  const int most = (Vec::registers - 1) / (rows + 1);
  return most < 1 ? 1 : most > kWidest ? kWidest : most;
}

template <int LOG, int WIDTH>
void enter(Kernels& table) {
  constexpr int HEIGHT = 1 << LOG;
  if constexpr (WIDTH <= widest_of(HEIGHT)) {
    table.rows[LOG][WIDTH - 1][0] = rows<HEIGHT, rows_at_once(HEIGHT), WIDTH, false>;
    table.rows[LOG][WIDTH - 1][1] = rows<HEIGHT, rows_at_once(HEIGHT), WIDTH, true>;
    if constexpr (WIDTH < kWidest) enter<LOG, WIDTH + 1>(table);
  }
}

template <int LOG>
void enter_height(Kernels& table) {
  table.widest[LOG] = widest_of(1 << LOG);
  table.vector[LOG] = vector_rows<1 << LOG>;
  enter<LOG, 1>(table);
}

Kernels made(const char* name) {
  Kernels table{};
  table.name = name;
  table.lanes = Vec::lanes;
  enter_height<0>(table);
  enter_height<1>(table);
  enter_height<2>(table);
  enter_height<3>(table);
  enter_height<4>(table);
  table.depthwise = depthwise;
  table.lstm = lstm;
  table.transpose = transpose;
  table.copy_where = copy_where;
  table.every_second = every_second;
  return table;
}

}  // namespace
}  // namespace prunus::PRUNUS_ISA
