// Functions of each token on a CPU, in one pass over memory: the operators of rows.py.
//
// Numbers are computed in float32. Dimension letters: R rows, M numbers of a row, F hidden, B batch, H heads, T tokens,
// D head dim, P pairs of channels that turn.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <omp.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace {

using at::BFloat16;
using at::Tensor;
using Vec = at::vec::Vectorized<float>;

constexpr int64_t LANES = Vec::size();
constexpr int64_t NUMBERS_OF_THREAD = 32768;  // fewest that are worth a thread, as in PyTorch
constexpr int64_t ROWS_OF_SUM = 64;           // summed at once, so that a sum does not depend on the number of threads

// Two vectors, since one of bfloat16 has so many numbers.
struct Pair {
  Vec first, second;
};

Pair load(const float* x, int64_t n) {
  return {Vec::loadu(x, std::min(n, LANES)), Vec::loadu(x + LANES, std::max<int64_t>(n - LANES, 0))};
}
Pair load(const BFloat16* x, int64_t n) {
  const auto [first, second] = at::vec::convert_to_float<BFloat16>(at::vec::Vectorized<BFloat16>::loadu(x, n));
  return {first, second};
}
void store(const Pair& x, float* to, int64_t n) {
  x.first.store(to, std::min(n, LANES));
  if (n > LANES) x.second.store(to + LANES, n - LANES);
}
void store(const Pair& x, BFloat16* to, int64_t n) {
  at::vec::convert_from_float<BFloat16>(x.first, x.second).store(to, n);
}

Vec vector(const float* x, int64_t n) { return Vec::loadu(x, n); }

// f of each vector of pairs.
template <typename F, typename... Pairs>
Pair of_each(const F& f, const Pairs&... x) {
  return {f(x.first...), f(x.second...)};
}

float sum_of(const Vec& x) {
  float lanes[LANES], sum = 0;
  x.store(lanes);
  for (float lane : lanes) sum += lane;
  return sum;
}

// Call f(start, n) for each vector, or pair of vectors, of a row.
template <typename F>
void by_vectors(int64_t length, const F& f) {
  for (int64_t j = 0; j < length; j += LANES) f(j, std::min(LANES, length - j));
}
template <typename F>
void by_pairs(int64_t length, const F& f) {
  for (int64_t j = 0; j < length; j += 2 * LANES) f(j, std::min(2 * LANES, length - j));
}

template <typename F>
void by_rows(int64_t rows, int64_t numbers, const F& f) {
  omp_set_num_threads(at::get_num_threads());  // the OpenMP of another compiler has a number of its own
  at::parallel_for(0, rows, std::max<int64_t>(1, NUMBERS_OF_THREAD / std::max<int64_t>(1, numbers)), f);
}

// x / sqrt(mean(x^2) + eps) * weight of x (..., M), and the factors of the rows.
std::tuple<Tensor, Tensor> normalise(const Tensor& inputs, const Tensor& weight_M, double eps) {
  const int64_t M = inputs.size(-1), R = inputs.numel() / M;
  Tensor y = at::empty_like(inputs), factors = at::empty({R}, inputs.options());
  const float *const from = inputs.const_data_ptr<float>(), *const weight = weight_M.const_data_ptr<float>();
  float *const to = y.mutable_data_ptr<float>(), *const of_rows = factors.mutable_data_ptr<float>();
  by_rows(R, M, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
      const float* const x = from + r * M;
      Vec squares(0.f);
      by_vectors(M, [&](int64_t j, int64_t n) { squares = at::vec::fmadd(vector(x + j, n), vector(x + j, n), squares); });
      const float factor = 1 / std::sqrt(sum_of(squares) / M + static_cast<float>(eps));
      by_vectors(M, [&](int64_t j, int64_t n) {
        (vector(x + j, n) * Vec(factor) * vector(weight + j, n)).store(to + r * M + j, n);
      });
      of_rows[r] = factor;
    }
  });
  return {y, factors};
}

std::tuple<Tensor, Tensor> normalise_backward(
    const Tensor& gradient, const Tensor& inputs, const Tensor& weight_M, const Tensor& factors_R) {
  const int64_t R = factors_R.size(0), M = inputs.size(-1), num_sums = (R + ROWS_OF_SUM - 1) / ROWS_OF_SUM;
  Tensor of_x = at::empty_like(inputs), of_weight = at::empty({num_sums, M}, inputs.options());
  const float *const gradients = gradient.const_data_ptr<float>(), *const from = inputs.const_data_ptr<float>(),
                    *const weight = weight_M.const_data_ptr<float>(), *const factors = factors_R.const_data_ptr<float>();
  float *const to = of_x.mutable_data_ptr<float>(), *const sums = of_weight.mutable_data_ptr<float>();
  by_rows(num_sums, ROWS_OF_SUM * M, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
      float* const sum = sums + i * M;
      std::fill(sum, sum + M, 0.f);
      for (int64_t r = i * ROWS_OF_SUM; r < std::min(R, (i + 1) * ROWS_OF_SUM); r++) {
        const float *const x = from + r * M, *const g = gradients + r * M;
        const Vec factor(factors[r]);
        Vec products(0.f);
        by_vectors(M, [&](int64_t j, int64_t n) {
          const Vec product = vector(g + j, n) * vector(x + j, n);
          products = at::vec::fmadd(product, vector(weight + j, n), products);
          at::vec::fmadd(product, factor, vector(sum + j, n)).store(sum + j, n);
        });
        const Vec along(sum_of(products) / M * factors[r] * factors[r]);
        by_vectors(M, [&](int64_t j, int64_t n) {
          (factor * (vector(g + j, n) * vector(weight + j, n) - vector(x + j, n) * along)).store(to + r * M + j, n);
        });
      }
    }
  });
  return {of_x, of_weight.sum(0)};
}

template <typename T>
Vec sigmoid(const Vec& x) {
  // bfloat16 does not see the difference
  const Vec exponential = std::is_same_v<T, BFloat16> ? x.neg().exp_u20() : x.neg().exp();
  return Vec(1.f) / (Vec(1.f) + exponential);
}

template <typename T>
void gate(const Tensor& both, Tensor& y) {
  const int64_t F = y.size(-1), R = y.numel() / F;
  const T* const from = both.const_data_ptr<T>();
  T* const to = y.mutable_data_ptr<T>();
  by_rows(R, F, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++)
      by_pairs(F, [&](int64_t j, int64_t n) {
        const Pair x = load(from + 2 * r * F + j, n), up = load(from + (2 * r + 1) * F + j, n);
        store(of_each([](Vec x, Vec up) { return x * sigmoid<T>(x) * up; }, x, up), to + r * F + j, n);
      });
  });
}

template <typename T>
void gate_backward(const Tensor& gradient, const Tensor& both, Tensor& of_both) {
  const int64_t F = gradient.size(-1), R = gradient.numel() / F;
  const T *const gradients = gradient.const_data_ptr<T>(), *const from = both.const_data_ptr<T>();
  T* const to = of_both.mutable_data_ptr<T>();
  by_rows(R, F, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++)
      by_pairs(F, [&](int64_t j, int64_t n) {
        const int64_t of_x = 2 * r * F + j, of_up = of_x + F;
        const Pair x = load(from + of_x, n), up = load(from + of_up, n), g = load(gradients + r * F + j, n);
        const Pair part = of_each(sigmoid<T>, x);
        const auto of_gate = [](Vec x, Vec part, Vec up, Vec g) {
          return g * up * part * (Vec(1.f) + x * (Vec(1.f) - part));
        };
        store(of_each(of_gate, x, part, up, g), to + of_x, n);
        store(of_each([](Vec x, Vec part, Vec g) { return g * x * part; }, x, part, g), to + of_up, n);
      });
  });
}

// Numbers of a tensor (1 or B, 1 or H, T, n), with 0 as the step of a dimension of 1.
struct Steps {
  explicit Steps(const Tensor& x)
      : of_batch(x.size(0) > 1 ? x.stride(0) : 0), of_head(x.size(1) > 1 ? x.stride(1) : 0), of_token(x.stride(2)) {}
  int64_t at(int64_t b, int64_t h, int64_t t) const { return b * of_batch + h * of_head + t * of_token; }
  int64_t of_batch, of_head, of_token;
};

// Rotate the pairs (m, m + P), or (2m, 2m + 1), of the first 2P channels.
template <typename T>
void rotate(
    const Tensor& x_BHTD, const Tensor& cos_BHTP, const Tensor& sin_BHTP, bool interleaved, Tensor& y) {
  const int64_t H = x_BHTD.size(1), D = x_BHTD.size(3), P = cos_BHTP.size(3), num_tokens = x_BHTD.size(2);
  const T* const from = x_BHTD.const_data_ptr<T>();
  const float *const cosines = cos_BHTP.const_data_ptr<float>(), *const sines = sin_BHTP.const_data_ptr<float>();
  T* const to = y.mutable_data_ptr<T>();
  const Steps of_x(x_BHTD), of_y(y), of_cos(cos_BHTP), of_sin(sin_BHTP);
  by_rows(x_BHTD.size(0) * num_tokens, H * D, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++)
      for (int64_t h = 0; h < H; h++) {
        const int64_t b = i / num_tokens, t = i % num_tokens;
        const T* const x = from + of_x.at(b, h, t);
        T* const rotated = to + of_y.at(b, h, t);
        const float *const cos = cosines + of_cos.at(b, h, t), *const sin = sines + of_sin.at(b, h, t);
        if (interleaved) {
          for (int64_t m = 0; m < P; m++) {
            const float x1 = x[2 * m], x2 = x[2 * m + 1];
            rotated[2 * m] = static_cast<T>(x1 * cos[m] - x2 * sin[m]);
            rotated[2 * m + 1] = static_cast<T>(x2 * cos[m] + x1 * sin[m]);
          }
        } else {
          by_pairs(P, [&](int64_t j, int64_t n) {
            const Pair x1 = load(x + j, n), x2 = load(x + P + j, n), c = load(cos + j, n), s = load(sin + j, n);
            store(of_each([](Vec x1, Vec x2, Vec c, Vec s) { return x1 * c - x2 * s; }, x1, x2, c, s), rotated + j, n);
            store(
                of_each([](Vec x1, Vec x2, Vec c, Vec s) { return x2 * c + x1 * s; }, x1, x2, c, s), rotated + P + j, n);
          });
        }
        std::copy(x + 2 * P, x + D, rotated + 2 * P);
      }
  });
}

Tensor gate_operator(const Tensor& both) {
  auto sizes = both.sizes().vec();
  sizes.back() /= 2;
  Tensor y = at::empty(sizes, both.options());
  if (both.scalar_type() == at::kBFloat16) gate<BFloat16>(both, y);
  else gate<float>(both, y);
  return y;
}

Tensor gate_backward_operator(const Tensor& gradient, const Tensor& both) {
  Tensor of_both = at::empty_like(both);
  if (both.scalar_type() == at::kBFloat16) gate_backward<BFloat16>(gradient, both, of_both);
  else gate_backward<float>(gradient, both, of_both);
  return of_both;
}

Tensor rotate_operator(
    const Tensor& x_BHTD, const Tensor& cos_BHTP, const Tensor& sin_BHTP, bool interleaved) {
  Tensor y = x_BHTD.is_non_overlapping_and_dense() ? at::empty_like(x_BHTD) : at::empty(x_BHTD.sizes(), x_BHTD.options());
  if (x_BHTD.scalar_type() == at::kBFloat16) rotate<BFloat16>(x_BHTD, cos_BHTP, sin_BHTP, interleaved, y);
  else rotate<float>(x_BHTD, cos_BHTP, sin_BHTP, interleaved, y);
  return y;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(poslab_kernel, library) {
  library.def("normalise(Tensor x, Tensor weight, float eps) -> (Tensor, Tensor)", &normalise);
  library.def(
      "normalise_backward(Tensor gradient, Tensor x, Tensor weight, Tensor factors) -> (Tensor, Tensor)",
      &normalise_backward);
  library.def("gate(Tensor both) -> Tensor", &gate_operator);
  library.def("gate_backward(Tensor gradient, Tensor both) -> Tensor", &gate_backward_operator);
  library.def("rotate(Tensor x, Tensor cos, Tensor sin, bool interleaved) -> Tensor", &rotate_operator);
}
