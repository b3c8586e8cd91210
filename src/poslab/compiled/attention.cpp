// Attention on a CPU for windows of up to a few thousand tokens: the operators of poslab/attention/kernel.py.
//
// The rows of one block of queries have all of their logits at once, in float32 and in the cache. Products are oneDNN's,
// of bfloat16 or float32 with sums in float32. Bfloat16 factors on the right are stored as pairs of rows.
//
// Dimension letters: B batch, H query heads, G key heads, T queries, S keys, D head dim, R rows of a block, K keys that
// a block sees, N numbers of a bias.

#include <ATen/core/Tensor.h>
#include <ATen/Parallel.h>
#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <omp.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

namespace {

using at::BFloat16;
using at::Tensor;
using Vec = at::vec::Vectorized<float>;
using MaybeTensor = std::optional<Tensor>;

constexpr int64_t LANES = Vec::size();
constexpr int64_t STEP = 16;  // keys of a block are a multiple
// Different numbers of keys, between a power of two and the next, of a block and of a buffer: oneDNN keeps the code of
// each kind of product in each thread.
constexpr int64_t SIZES_OF_BLOCK = 16, SIZES_OF_BUFFER = 4;
constexpr float NONE = -std::numeric_limits<float>::infinity();

int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// n rounded up to one of so many sizes between a power of two and the next.
int64_t rounded_up_to_size(int64_t n, int64_t sizes) {
  int64_t step = STEP;
  while (2 * step * sizes <= n) step *= 2;
  return rounded_up(n, step);
}

template <typename T>
constexpr bool PAIRED = std::is_same_v<T, BFloat16>;

// A tensor (B, G, n, D) whose channels are contiguous.
template <typename T>
struct Heads {
  explicit Heads(const Tensor& x)
      : data(x.const_data_ptr<T>()), of_batch(x.stride(0)), of_head(x.stride(1)), of_row(x.stride(2)) {}
  const T* at(int64_t b, int64_t h, int64_t row) const { return data + b * of_batch + h * of_head + row * of_row; }
  const T* data;
  int64_t of_batch, of_head, of_row;
};

// Numbers of the rows of a batch, (1 or B, n), or none.
template <typename T>
struct OfRows {
  explicit OfRows(const MaybeTensor& x)
      : data(x ? x->const_data_ptr<T>() : nullptr), stride(x && x->size(0) > 1 ? x->size(1) : 0) {}
  explicit operator bool() const { return data != nullptr; }
  const T* at(int64_t b) const { return data + b * stride; }
  const T* data;
  int64_t stride;
};

struct Span {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Bias and visibility: the arguments of `distance_attention` in Python.
struct Rules {
  int64_t queries, keys, nearest, furthest;
  float scale;
  const float* bias;    // (H, N): of a distance with the largest first, or of a place; null for none
  int64_t num_numbers;  // N
  OfRows<int64_t> query_segments, key_segments;
  OfRows<bool> real_keys;
  OfRows<int64_t> query_places, key_places;

  // Keys that a query may see by its distance to them.
  Span of_query(int64_t query) const {
    const int64_t index = keys - queries + query;
    const int64_t begin = std::clamp<int64_t>(index - furthest, 0, keys);
    return {begin, std::clamp<int64_t>(index - nearest + 1, begin, keys)};
  }

  // Keys that a buffer has, those behind the last of them zeros.
  int64_t width() const { return rounded_up_to_size(keys, SIZES_OF_BUFFER); }

  // Keys of a block of queries; at least one step.
  Span of_block(int64_t first, int64_t stop) const {
    const int64_t begin = std::min(of_query(first).begin, keys - 1) / STEP * STEP;
    const int64_t size = rounded_up_to_size(std::max<int64_t>(1, of_query(stop - 1).end - begin), SIZES_OF_BLOCK);
    const int64_t inside = std::min(begin, width() - size);
    return {inside, inside + size};
  }

  // Index in the bias of head 0 of a query and key 0, for a bias of distance.
  int64_t diagonal(int64_t query) const { return queries - 1 - query; }

  // Turn the products of a query with the keys of its block into logits, minus infinity where hidden; return the largest.
  float finish(float* x, int64_t b, int64_t h, int64_t query, Span block) const {
    const Span seen = of_query(query);
    const int64_t from = seen.begin - block.begin, to = seen.end - block.begin;
    const float* of_head = bias == nullptr ? nullptr : bias + h * num_numbers;
    const Vec factor(scale);
    if (of_head == nullptr) {
      for (int64_t j = 0; j < block.size(); j += LANES) (Vec::loadu(x + j) * factor).store(x + j);
    } else if (query_places) {
      const int64_t place = query_places.at(b)[query];
      const int64_t* places = key_places.at(b) + block.begin;
      for (int64_t j = from; j < to; j++) x[j] = x[j] * scale + of_head[place - places[j]];
    } else {
      const float* of_keys = of_head + diagonal(query) + block.begin;
      int64_t j = from / LANES * LANES;
      for (; j + LANES <= to; j += LANES)
        at::vec::fmadd(Vec::loadu(x + j), factor, Vec::loadu(of_keys + j)).store(x + j);
      for (; j < to; j++) x[j] = x[j] * scale + of_keys[j];
    }
    std::fill(x, x + from, NONE);
    std::fill(x + to, x + block.size(), NONE);
    if (query_segments) {
      const int64_t segment = query_segments.at(b)[query];
      const int64_t* segments = key_segments.at(b) + block.begin;
      for (int64_t j = from; j < to; j++) x[j] = segments[j] == segment ? x[j] : NONE;
    }
    if (real_keys) {
      const bool* real = real_keys.at(b) + block.begin;
      for (int64_t j = from; j < to; j++) x[j] = real[j] ? x[j] : NONE;
    }
    Vec largest(NONE);
    for (int64_t j = 0; j < block.size(); j += LANES) largest = at::vec::maximum(largest, Vec::loadu(x + j));
    float lanes[LANES], top = NONE;
    largest.store(lanes);
    for (float lane : lanes) top = lane > top || std::isnan(lane) ? lane : top;  // which std::max_element may leave out
    return top;
  }
};

float sum_of(const Vec& x) {
  float lanes[LANES], sum = 0;
  x.store(lanes);
  for (float lane : lanes) sum += lane;
  return sum;
}

template <typename T>
Vec exponential(const Vec& x) {
  return PAIRED<T> ? x.exp_u20() : x.exp();  // 20 units in the last place of float32 are nothing to bfloat16
}

void store(const Vec& x, float* to, int64_t n = LANES) { x.store(to, n); }
void store(const Vec& x, BFloat16* to, int64_t n = LANES) {
  at::vec::convert_from_float<BFloat16>(x, Vec(0.f)).store(to, n);
}

// Copy n float32 numbers times a factor.
template <typename T>
void scaled_copy(const float* x, float factor, T* to, int64_t n) {
  for (int64_t j = 0; j < n; j += LANES)
    store(Vec::loadu(x + j, std::min(LANES, n - j)) * Vec(factor), to + j, std::min(LANES, n - j));
}

// Transpose 32-bit numbers, x (n, m) to (m, n).
void transpose_words(const float* x, int64_t of_x, int64_t n, int64_t m, float* to, int64_t of_to) {
  for (int64_t i = 0; i < n; i += 16)
    for (int64_t j = 0; j < m; j += 16)
      at::vec::transpose_mxn<float>(
          x + i * of_x + j, of_x, to + j * of_to + i, of_to, std::min<int64_t>(16, n - i), std::min<int64_t>(16, m - j));
}

// The transpose of x (n, d) as a factor on the right, (d, width): pairs of channels are words.
template <typename T>
void pack_transposed(const T* x, int64_t of_x, int64_t n, int64_t d, T* to, int64_t width) {
  constexpr int64_t in_word = PAIRED<T> ? 2 : 1;
  transpose_words(
      reinterpret_cast<const float*>(x), of_x / in_word, n, d / in_word, reinterpret_cast<float*>(to), width);
}

// x (n, d) as a factor on the right: pairs of rows, and zeros up to (rows, d).
template <typename T>
void pack(const T* x, int64_t of_x, int64_t n, int64_t rows, int64_t d, T* to) {
  if constexpr (PAIRED<T>) {
    for (int64_t i = 0; i < rows; i += 2) {
      const T *const first = x + std::min(i, n - 1) * of_x, *const second = x + std::min(i + 1, n - 1) * of_x;
      const uint32_t of_first = i < n ? 0xffff : 0, of_second = i + 1 < n ? 0xffff0000 : 0;
      uint32_t* const words = reinterpret_cast<uint32_t*>(to + i * d);
      for (int64_t j = 0; j < d; j++) words[j] = (first[j].x & of_first) | ((uint32_t(second[j].x) << 16) & of_second);
    }
  } else {
    for (int64_t i = 0; i < n; i++) std::copy_n(x + i * of_x, d, to + i * d);
    std::fill(to + n * d, to + rows * d, T(0));
  }
}

// x (n, d) as a factor on the left, (d, n); n is a multiple of 16.
template <typename T>
void transpose(const T* x, int64_t of_x, int64_t n, int64_t d, T* to) {
  if constexpr (PAIRED<T>) {
    float tile[16 * 16], turned[16 * 16];
    for (int64_t j = 0; j < d; j += 16)
      for (int64_t i = 0; i < n; i += 16) {
        const int64_t width = std::min<int64_t>(16, d - j);
        for (int64_t r = 0; r < 16; r++)
          for (int64_t c = 0; c < width; c++) tile[r * 16 + c] = x[(i + r) * of_x + j + c];
        transpose_words(tile, 16, 16, width, turned, 16);
        for (int64_t c = 0; c < width; c++) scaled_copy(turned + c * 16, 1, to + (j + c) * n + i, 16);
      }
  } else {
    transpose_words(x, of_x, n, d, to, n);
  }
}

float dot(const float* x, const float* y, int64_t n) {
  Vec sum(0.f);
  for (int64_t j = 0; j < n; j += LANES)
    sum = at::vec::fmadd(Vec::loadu(x + j, std::min(LANES, n - j)), Vec::loadu(y + j, std::min(LANES, n - j)), sum);
  return sum_of(sum);
}
float dot(const BFloat16* x, const BFloat16* y, int64_t n) {
  float sums[16] = {};
  int64_t j = 0;
  for (; j + 16 <= n; j += 16)
    for (int64_t lane = 0; lane < 16; lane++) sums[lane] += float(x[j + lane]) * float(y[j + lane]);
  for (; j < n; j++) sums[0] += float(x[j]) * float(y[j]);
  float sum = 0;
  for (float lane : sums) sum += lane;
  return sum;
}

// c (m, n) = a (m, k) b (k, n), or that added to c, with rows so far apart.
template <typename T>
void product(
    int64_t m, int64_t n, int64_t k, const T* a, int64_t of_a, const T* b, int64_t of_b, float* c, int64_t of_c, bool add) {
  at::native::cpublas::brgemm(m, n, k, of_a, of_b, of_c, add, a, b, c, PAIRED<T>);
}

// Rows of a block, padded with zeros in a buffer if there are fewer than `rows`, so that all products have one shape.
template <typename T>
struct Block {
  Block(const Heads<T>& x, int64_t b, int64_t h, int64_t start, int64_t n, int64_t rows, int64_t d, std::vector<T>& buffer)
      : data(x.at(b, h, start)), stride(x.of_row) {
    if (n == rows) return;
    std::fill(buffer.begin(), buffer.end(), T(0));
    for (int64_t i = 0; i < n; i++) std::copy_n(data + i * stride, d, buffer.data() + i * d);
    data = buffer.data();
    stride = d;
  }
  const T* data;
  int64_t stride;
};

template <typename T>
void forward(
    const Tensor& q_BHTD, const Tensor& k_BGSD, const Tensor& v_BGSD, const Rules& rules, int64_t rows, Tensor& output,
    Tensor& log_sum) {
  constexpr int64_t in_word = PAIRED<T> ? 2 : 1;
  const int64_t B = q_BHTD.size(0), H = q_BHTD.size(1), D = q_BHTD.size(3), G = k_BGSD.size(1);
  const int64_t num_queries = rules.queries, num_keys = rules.keys, width = rules.width();
  const int64_t num_blocks = (num_queries + rows - 1) / rows;
  const Heads<T> q(q_BHTD), k(k_BGSD), v(v_BGSD);
  Tensor packed_k = at::empty({B * G, D * width}, q_BHTD.options()), packed_v = at::empty_like(packed_k);
  T *const of_k = packed_k.mutable_data_ptr<T>(), *const of_v = packed_v.mutable_data_ptr<T>();
  T* const to = output.mutable_data_ptr<T>();
  float* const sums = log_sum.mutable_data_ptr<float>();
  at::parallel_for(0, B * G, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
      T* const packed = of_k + i * D * width;
      if (width != num_keys) std::fill(packed, packed + D * width, T(0));
      pack_transposed(k.at(i / G, i % G, 0), k.of_row, num_keys, D, packed, width);
      pack(v.at(i / G, i % G, 0), v.of_row, num_keys, width, D, of_v + i * D * width);
    }
  });
  at::parallel_for(0, B * H * num_blocks, 1, [&](int64_t first, int64_t last) {
    std::vector<float> logits(rows * width), mixed(rows * D);
    std::vector<T> weights(rows * width), buffer(rows * D);
    for (int64_t i = first; i < last; i++) {
      const int64_t b = i / num_blocks / H, h = i / num_blocks % H, start = i % num_blocks * rows;
      const int64_t n = std::min(rows, num_queries - start), of_head = (b * G + h / (H / G)) * D * width;
      const Span span = rules.of_block(start, start + n);
      const int64_t K = span.size();
      const Block<T> some_q(q, b, h, start, n, rows, D, buffer);
      product(rows, K, D, some_q.data, some_q.stride, of_k + of_head + span.begin * in_word, width, logits.data(), K, false);
      float* const log_sums = sums + (b * H + h) * num_queries + start;
      float total[64];
      for (int64_t r = 0; r < n; r++) {
        float* const x = logits.data() + r * K;
        T* const row = weights.data() + r * K;
        const float largest = rules.finish(x, b, h, start + r, span);
        Vec sum(0.f);
        if (largest == NONE) {
          std::fill(row, row + K, T(0));
        } else {
          const Vec off(largest);
          for (int64_t j = 0; j < K; j += LANES) {
            const Vec weight = exponential<T>(Vec::loadu(x + j) - off);
            store(weight, row + j);
            sum = sum + weight;
          }
        }
        total[r] = sum_of(sum);
        log_sums[r] = largest + std::log(total[r]);
      }
      product(rows, D, K, weights.data(), K, of_v + of_head + span.begin * D, D, mixed.data(), D, false);
      for (int64_t r = 0; r < n; r++)
        scaled_copy(
            mixed.data() + r * D, total[r] == 0 ? 0 : 1 / total[r], to + ((b * H + h) * num_queries + start + r) * D, D);
    }
    at::native::cpublas::brgemm_release(PAIRED<T>);
  });
}

// Weights of a row and the gradient of its products, in place of its logits and of the gradient of its weights; add the
// gradient of its logits to the gradient of the bias.
template <typename T>
void differentiate(
    float* x, float* y, float log_sum, float taken_away, const Rules& rules, int64_t b, int64_t query, Span span,
    float* of_bias) {
  const Vec off(log_sum), away(taken_away), factor(rules.scale);
  float* const of_keys = of_bias == nullptr || rules.query_places ? nullptr : of_bias + rules.diagonal(query) + span.begin;
  const Span seen = rules.of_query(query);
  const int64_t from = seen.begin - span.begin, to = seen.end - span.begin;
  for (int64_t j = 0; j < span.size(); j += LANES) {
    const Vec weight = exponential<T>(Vec::loadu(x + j) - off);
    const Vec of_logits = weight * (Vec::loadu(y + j) - away);
    weight.store(x + j);
    of_logits.store(y + j);
  }
  if (of_keys != nullptr) {
    int64_t j = from;
    for (; j + LANES <= to; j += LANES) (Vec::loadu(of_keys + j) + Vec::loadu(y + j)).store(of_keys + j);
    for (; j < to; j++) of_keys[j] += y[j];
  } else if (of_bias != nullptr) {
    const int64_t place = rules.query_places.at(b)[query];
    const int64_t* places = rules.key_places.at(b) + span.begin;
    for (int64_t j = from; j < to; j++) of_bias[place - places[j]] += y[j];
  }
  for (int64_t j = 0; j < span.size(); j += LANES) (Vec::loadu(y + j) * factor).store(y + j);
}

// Two rows of K numbers as bfloat16: as rows of a factor on the left, if `left` is there, and as pairs.
void as_factors(const float* x, int64_t K, BFloat16* left, BFloat16* pairs) {
  for (int64_t j = 0; j < K; j += LANES) {
    const Vec first = Vec::loadu(x + j), second = Vec::loadu(x + K + j);
    const auto [low, high] = at::vec::interleave2(first, second);
    at::vec::convert_from_float<BFloat16>(low, high).store(pairs + 2 * j);
    if (left != nullptr) {
      store(first, left + j);
      store(second, left + K + j);
    }
  }
}

template <typename T>
void backward(
    const Tensor& gradient, const Tensor& q_BHTD, const Tensor& k_BGSD, const Tensor& v_BGSD, const Tensor& output,
    const Tensor& log_sum, const Rules& rules, int64_t rows, Tensor& q_gradient, Tensor& k_gradient, Tensor& v_gradient,
    Tensor& of_bias) {
  constexpr int64_t in_word = PAIRED<T> ? 2 : 1;
  const int64_t B = q_BHTD.size(0), H = q_BHTD.size(1), D = q_BHTD.size(3), G = k_BGSD.size(1), N = rules.num_numbers;
  const int64_t num_queries = rules.queries, num_keys = rules.keys, width = rules.width();
  const Heads<T> q(q_BHTD), k(k_BGSD), v(v_BGSD), of_output(gradient), kept(output);
  const float* const sums = log_sum.const_data_ptr<float>();
  T *const to_q = q_gradient.mutable_data_ptr<T>(), *const to_k = k_gradient.mutable_data_ptr<T>(),
           *const to_v = v_gradient.mutable_data_ptr<T>();
  float* const bias_gradients = of_bias.numel() == 0 ? nullptr : of_bias.mutable_data_ptr<float>();  // (B, H, N)
  at::parallel_for(0, B * G, 1, [&](int64_t first, int64_t last) {
    std::vector<T> k_transposed(D * width), v_transposed(D * width), k_packed(D * width), buffer(rows * D),
        gradient_buffer(rows * D), q_transposed(D * rows), gradient_transposed(D * rows);
    std::vector<T> of_products(PAIRED<T> ? rows * width : 0), pairs(of_products.size()), weight_pairs(of_products.size());
    std::vector<float> weights(rows * width), of_weights(rows * width), some_gradient(rows * D), of_k(D * width),
        of_v(D * width), turned(D * width);
    for (int64_t i = first; i < last; i++) {
      const int64_t b = i / G, g = i % G;
      if (width != num_keys) {
        std::fill(k_transposed.begin(), k_transposed.end(), T(0));
        std::fill(v_transposed.begin(), v_transposed.end(), T(0));
      }
      pack_transposed(k.at(b, g, 0), k.of_row, num_keys, D, k_transposed.data(), width);
      pack_transposed(v.at(b, g, 0), v.of_row, num_keys, D, v_transposed.data(), width);
      pack(k.at(b, g, 0), k.of_row, num_keys, width, D, k_packed.data());
      std::fill(of_k.begin(), of_k.end(), 0.f);
      std::fill(of_v.begin(), of_v.end(), 0.f);
      for (int64_t h = g * (H / G); h < (g + 1) * (H / G); h++) {
        float* const of_head =
            bias_gradients == nullptr ? nullptr : bias_gradients + (b * H + h) * N;
        for (int64_t start = 0; start < num_queries; start += rows) {
          const int64_t n = std::min(rows, num_queries - start);
          const Span span = rules.of_block(start, start + n);
          const int64_t K = span.size();
          const Block<T> some_q(q, b, h, start, n, rows, D, buffer);
          const Block<T> some(of_output, b, h, start, n, rows, D, gradient_buffer);
          float *const x = weights.data(), *const y = of_weights.data();
          product(rows, K, D, some_q.data, some_q.stride, k_transposed.data() + span.begin * in_word, width, x, K, false);
          product(rows, K, D, some.data, some.stride, v_transposed.data() + span.begin * in_word, width, y, K, false);
          for (int64_t r = 0; r < rows; r++) {
            const float row_sum = r < n ? sums[(b * H + h) * num_queries + start + r] : NONE;
            if (row_sum == NONE || rules.finish(x + r * K, b, h, start + r, span) == NONE) {
              std::fill_n(x + r * K, K, 0.f);
              std::fill_n(y + r * K, K, 0.f);
              continue;
            }
            const float taken_away = dot(some.data + r * some.stride, kept.at(b, h, start + r), D);
            differentiate<T>(x + r * K, y + r * K, row_sum, taken_away, rules, b, start + r, span, of_head);
          }
          transpose(some_q.data, some_q.stride, rows, D, q_transposed.data());
          transpose(some.data, some.stride, rows, D, gradient_transposed.data());
          const T *weights_right, *products_left, *products_right;
          if constexpr (PAIRED<T>) {
            for (int64_t r = 0; r < rows; r += 2) {
              as_factors(x + r * K, K, nullptr, weight_pairs.data() + r * K);
              as_factors(y + r * K, K, of_products.data() + r * K, pairs.data() + r * K);
            }
            weights_right = weight_pairs.data(), products_left = of_products.data(), products_right = pairs.data();
          } else {
            weights_right = x, products_left = products_right = y;
          }
          product(D, K, rows, gradient_transposed.data(), rows, weights_right, K, of_v.data() + span.begin, width, true);
          product(D, K, rows, q_transposed.data(), rows, products_right, K, of_k.data() + span.begin, width, true);
          product(
              rows, D, K, products_left, K, k_packed.data() + span.begin * D, D, some_gradient.data(), D, false);
          scaled_copy(some_gradient.data(), 1, to_q + ((b * H + h) * num_queries + start) * D, n * D);
        }
      }
      transpose_words(of_k.data(), width, D, width, turned.data(), D);
      scaled_copy(turned.data(), 1, to_k + i * num_keys * D, num_keys * D);
      transpose_words(of_v.data(), width, D, width, turned.data(), D);
      scaled_copy(turned.data(), 1, to_v + i * num_keys * D, num_keys * D);
    }
    at::native::cpublas::brgemm_release(PAIRED<T>);
  });
}

Rules rules_of(
    const Tensor& q, const Tensor& k, const MaybeTensor& bias, int64_t nearest, int64_t furthest, double scale,
    const MaybeTensor& query_segments, const MaybeTensor& key_segments, const MaybeTensor& real_keys,
    const MaybeTensor& query_places, const MaybeTensor& key_places) {
  const int64_t limit = q.size(2) + k.size(2);  // beyond all distances; sums with larger numbers may overflow
  return {
      q.size(2), k.size(2), std::clamp(nearest, -limit, limit), std::clamp(furthest, -limit, limit),
      static_cast<float>(scale),
      bias ? bias->const_data_ptr<float>() : nullptr, bias ? bias->size(1) : 0,
      OfRows<int64_t>(query_segments), OfRows<int64_t>(key_segments), OfRows<bool>(real_keys),
      OfRows<int64_t>(query_places), OfRows<int64_t>(key_places)};
}

// Let parallel regions have as many threads as PyTorch counts: the OpenMP of another compiler has a number of its own.
void share_num_threads() { omp_set_num_threads(at::get_num_threads()); }

int64_t rows_of_block(int64_t num_queries) { return num_queries >= 64 ? 64 : num_queries >= 32 ? 32 : 16; }

std::tuple<Tensor, Tensor> attend(
    const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& bias, int64_t nearest, int64_t furthest,
    double scale, const MaybeTensor& query_segments, const MaybeTensor& key_segments, const MaybeTensor& real_keys,
    const MaybeTensor& query_places, const MaybeTensor& key_places) {
  share_num_threads();
  const Rules rules = rules_of(
      q, k, bias, nearest, furthest, scale, query_segments, key_segments, real_keys, query_places, key_places);
  Tensor output = at::empty(q.sizes(), q.options());
  Tensor log_sum = at::empty(q.sizes().slice(0, 3), q.options().dtype(at::kFloat));
  const int64_t rows = rows_of_block(q.size(2));
  if (q.scalar_type() == at::kBFloat16) forward<BFloat16>(q, k, v, rules, rows, output, log_sum);
  else forward<float>(q, k, v, rules, rows, output, log_sum);
  return {output, log_sum};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attend_backward(
    const Tensor& gradient, const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& bias,
    const Tensor& output, const Tensor& log_sum, bool bias_learns, int64_t nearest, int64_t furthest, double scale,
    const MaybeTensor& query_segments, const MaybeTensor& key_segments, const MaybeTensor& real_keys,
    const MaybeTensor& query_places, const MaybeTensor& key_places) {
  share_num_threads();
  const Rules rules = rules_of(
      q, k, bias, nearest, furthest, scale, query_segments, key_segments, real_keys, query_places, key_places);
  Tensor of_q = at::empty(q.sizes(), q.options()), of_k = at::empty(k.sizes(), k.options()), of_v = at::empty_like(of_k);
  // For each row of the batch, so that the sum does not depend on the number of threads.
  Tensor of_bias = at::zeros({bias_learns ? q.size(0) : 0, q.size(1), rules.num_numbers}, log_sum.options());
  const int64_t rows = rows_of_block(q.size(2));
  if (q.scalar_type() == at::kBFloat16)
    backward<BFloat16>(gradient, q, k, v, output, log_sum, rules, rows, of_q, of_k, of_v, of_bias);
  else
    backward<float>(gradient, q, k, v, output, log_sum, rules, rows, of_q, of_k, of_v, of_bias);
  return {of_q, of_k, of_v, of_bias.sum(0)};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(poslab_kernel, library) {
  library.def(
      "attend(Tensor q, Tensor k, Tensor v, Tensor? bias, int nearest, int furthest, float scale, "
      "Tensor? query_segments, Tensor? key_segments, Tensor? real_keys, Tensor? query_places, Tensor? key_places) "
      "-> (Tensor, Tensor)",
      &attend);
  library.def(
      "attend_backward(Tensor gradient, Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor output, Tensor log_sum, "
      "bool bias_learns, int nearest, int furthest, float scale, Tensor? query_segments, Tensor? key_segments, "
      "Tensor? real_keys, Tensor? query_places, Tensor? key_places) -> (Tensor, Tensor, Tensor, Tensor)",
      &attend_backward);
}
