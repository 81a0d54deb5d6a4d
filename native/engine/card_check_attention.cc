// A card's check: rows that are stored in a cache of every type, and attention over them.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "engine/card_trial.h"

namespace tokensieve {

namespace {

using kernels::Backend;
using kernels::Side;

constexpr int kHead = 64, kGroup = 3;

// One side of one head on the card; the reference's pages must have the same bytes.
struct Stored {
  std::vector<Buffer> pages;
  std::vector<kernels::Piece> pieces;
};

void store(Trial& t, Side side, DType type, const float* x, int count, Stored& to) {
  const size_t bytes = t.card.page_bytes(side, type, kHead);
  Buffer page(bytes, true, t.card.memory), same(bytes, true);
  const bool whole = side == Side::keys && (type == DType::kivi4 || type == DType::kivi2);
  for (const bool card : {true, false}) {
    const Backend& backend = card ? t.card : t.exact;
    Team& team = card ? t.team : t.alone;
    const kernels::StoreJob job{side, type, x, kHead, count, card ? page.data() : same.data(), 0};
    if (whole) {
      backend.store_kivi_keys(type, kHead, x, kHead, job.page, team);
    } else {
      backend.store_rows(kHead, &job, 1, team);
    }
  }
  const std::string what = std::string("storing ") + traits(type).name + (side == Side::keys ? " keys" : " values");
  t.wait(what);
  if (std::memcmp(page.data(), same.data(), bytes) != 0)
    throw Error(Code::device, what + " gave other bytes than were expected");
  to.pieces.push_back({page.data(), 0, static_cast<int16_t>(count), type});
  to.pages.push_back(std::move(page));
}

// Keys that do not fill a page of their own type are f16.
Stored stored(Trial& t, Side side, DType type, int rows) {
  const Numbers<float> x = t.numbers(static_cast<size_t>(rows) * kHead);
  const bool whole = side == Side::keys && (type == DType::kivi4 || type == DType::kivi2);
  Stored to;
  for (int row = 0; row < rows; row += kernels::kPageRows) {
    const int count = std::min(rows - row, kernels::kPageRows);
    store(t, side, whole && count < kernels::kPageRows ? DType::f16 : type, x.data() + row * kHead, count, to);
  }
  return to;
}

// What attention gives; lse and mass stand behind out.
struct Answer {
  Numbers<float> out, lse, mass;
};

Answer answer_of(Trial& t, const Backend& backend, const kernels::AttentionShape& shape, kernels::AttentionJob job,
                 std::vector<kernels::View> views, Team& team, const std::string& what) {
  const size_t n = static_cast<size_t>(job.n), heads = static_cast<size_t>(shape.heads);
  size_t rows = 0;
  for (const kernels::View& view : views) rows += static_cast<size_t>(view.rows);
  Answer a{t.nothing(n * heads * kHead), t.nothing(n * heads), t.nothing(rows)};
  float* mass = a.mass.data();
  for (kernels::View& view : views) view.mass = mass, mass += view.rows;
  job.views = views.data(), job.out = a.out.data(), job.ldo = heads * kHead, job.lse = a.lse.data();
  Buffer scratch(backend.attention_scratch(shape, &job, 1, 1) + 64, false, t.card.memory);
  backend.attention(shape, &job, 1, scratch.data(), team);
  t.wait(what);
  return a;
}

// kv_heads: of keys and values. rotated: keys are stored as they come and turned when they are read.
void try_attention(Trial& t, DType type, int kv_heads, int rows, int n, bool rotated) {
  std::vector<Stored> sides;
  std::vector<kernels::View> views(static_cast<size_t>(kv_heads));
  std::vector<int32_t> first(static_cast<size_t>(n), 0), end;
  for (int i = 0; i < n; i++) end.push_back(rows - n + 1 + i);
  for (int h = 0; h < kv_heads; h++) {
    for (const Side side : {Side::keys, Side::values}) sides.push_back(stored(t, side, type, rows));
  }
  const Numbers<float> bias = t.numbers(static_cast<size_t>(rows));
  for (size_t h = 0; h < views.size(); h++) {
    const Stored &keys = sides[2 * h], &values = sides[2 * h + 1];
    kernels::View& view = views[h];
    view.keys = keys.pieces.data(), view.key_pieces = static_cast<int>(keys.pieces.size());
    view.values = values.pieces.data(), view.value_pieces = static_cast<int>(values.pieces.size());
    view.rows = rows, view.first = first.data(), view.end = end.data();
    view.bias = h == 0 ? bias.data() : nullptr;
  }
  const int heads = kv_heads * kGroup;
  const Numbers<float> q = t.numbers(static_cast<size_t>(n * heads * kHead)),
                       turned = t.numbers(static_cast<size_t>(rows) * kHead);
  kernels::AttentionShape shape{heads, kv_heads, kHead, 0.125f, nullptr, nullptr, 0, 0};
  if (rotated) shape.cos = turned.data(), shape.sin = turned.data() + rows * kHead / 2, shape.rotated = kHead;
  shape.table_rows = rotated ? rows : 0;
  kernels::AttentionJob job;
  job.q = q.data(), job.ldq = static_cast<size_t>(heads * kHead), job.n = n;
  const std::string what = std::string("attention of ") + std::to_string(n) + " queries over " + traits(type).name +
                           (rotated ? " rows, late rotation" : " rows");
  const Answer got = answer_of(t, t.card, shape, job, views, t.team, what),
               want = answer_of(t, t.exact, shape, job, views, t.alone, what);
  // More than 4 queries: all factors are rounded to bf16 (kernels/attention.h).
  const bool rounds = n > 4;
  const Tolerance most = rounds ? Tolerance{0, 4e-2} : Tolerance{0, 5e-5};
  compare(what, got.out.data(), want.out.data(), want.out.data(), want.out.size(), most);
  compare(what + " (sums)", got.lse.data(), want.lse.data(), want.lse.data(), want.lse.size(), most);
  compare(what + " (mass)", got.mass.data(), want.mass.data(), want.mass.data(), want.mass.size(),
          rounds ? Tolerance{2e-2, 1e-3} : Tolerance{5e-5, 1e-5});
}

}  // namespace

void try_attentions(Trial& t) {
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::kivi4, DType::kivi2}) {
    for (const int n : {2, 6}) try_attention(t, type, 1, 40, n, false);
  }
  try_attention(t, DType::f16, 2, 290, 1, false);  // in splits, which are merged
  try_attention(t, DType::f16, 2, 70, 9, true);  // in tiles
}

}  // namespace tokensieve
