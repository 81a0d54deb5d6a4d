// Decode: pages are read in place. A task takes some splits of one head; whoever finishes a head's last task merges it.
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/page_layout.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

// A worker's part of the scratch, for `rows` query rows.
struct Desk {
  float* q;  // [rows][head_size], times scale * log2(e)
  float* s;  // [rows][kScoreRow]: scores, then exponentials
  float* shifts;  // [rows][head_size / 32][16]
  float* opened;  // [head_size][16]: keys that are rotated when read
};

size_t up_to_4(int rows) { return static_cast<size_t>(rows + 3) / 4 * 4; }

Desk desk_of(const Plan& plan, int worker, int rows) {
  const size_t d = static_cast<size_t>(plan.shape->head_size), n = up_to_4(rows);
  float* q = reinterpret_cast<float*>(plan.workers + plan.worker_bytes * static_cast<size_t>(worker));
  return {q, q + n * d, q + n * (d + kScoreRow), q + n * (d + kScoreRow + d / 2)};
}

void scale_queries(const Plan& plan, const DecodeHead& head, const Desk& desk) {
  const int d = plan.shape->head_size;
  const F scale = set1(plan.shape->scale * kLog2e);
  float* y = desk.q;
  for (int r = 0; r < head.rows; r++, y += d) {
    const int column = (head.kv * plan.group + r % plan.group) * d;
    const float* x = head.job->q + static_cast<size_t>(r / plan.group) * head.job->ldq + column;
    for (int c = 0; c < d; c += 16) store(y + c, mul(load(x + c), scale));
  }
}

// The first n rows at a cursor as far as they lie in one piece.
Piece front(const Piece* pieces, Cursor* at, int n) {
  *at = settle(pieces, *at);
  Piece piece = pieces[at->piece];
  const int rest = piece.count - at->row;
  piece.first = static_cast<int16_t>(piece.first + at->row);
  piece.count = static_cast<int16_t>(rest < n ? rest : n);
  return piece;
}

// Scores of cache rows [lo, hi) of a split that begins at row r0, where `keys` stands.
void score_split(const Plan& plan, const DecodeHead& head, const Desk& desk, Cursor keys, int r0, int lo, int hi,
                 const uint8_t* after) {
  const int d = plan.shape->head_size;
  if (plan.shape->cos) {
    keys.row += lo / 16 * 16 - r0;
    for (int row = lo / 16 * 16; row < hi; row += 16) {
      const int rest = head.view->rows - row, n = rest < 16 ? rest : 16;
      keys = open_keys(*plan.shape, *head.view, keys, row, n, desk.opened);
      const Piece block{reinterpret_cast<const uint8_t*>(desk.opened), 0, 16, DType::f32};
      key_scores(block, d, block.page, desk.q, head.rows, desk.s + (row - r0));
    }
    return;
  }
  keys.row += lo - r0;
  Piece piece = front(head.view->keys, &keys, hi - lo);
  for (int row = lo; row < hi;) {
    const int n = piece.count;
    Piece next = piece;
    keys.row += n;
    next.page = after;
    if (row + n < hi) next = front(head.view->keys, &keys, hi - row - n);
    key_scores(piece, d, next.page, desk.q, head.rows, desk.s + (row - r0));
    row += n;
    piece = next;
  }
}

void add_values(const Plan& plan, const DecodeHead& head, const Desk& desk, Cursor values, int r0, int lo, int hi,
                const uint8_t* after, float* out) {
  const int d = plan.shape->head_size;
  bool shifted = false;
  for (int i = 0; i < head.rows * d; i += 16) store(out + i, zero());
  values.row += lo - r0;
  Piece piece = front(head.view->values, &values, hi - lo);
  for (int row = lo; row < hi;) {
    const int n = piece.count;
    Piece next = piece;
    values.row += n;
    next.page = after;
    if (row + n < hi) next = front(head.view->values, &values, hi - row - n);
    if (is_kivi(piece.type) && !shifted) {
      for (int i = 0; i < head.rows * d / 2; i += 16) store(desk.shifts + i, zero());
      shifted = true;
    }
    value_sums(piece, d, next.page, desk.s + (row - r0), head.rows, out, desk.shifts);
    row += n;
    piece = next;
  }
  if (shifted) add_shifts(desk.shifts, d, head.rows, out);
}

// Exponentials of one query row's scores s, for columns [from, to) of its split (16 rows a column step); of these it
// sees [first, end). Returns the maximum, sets the sum; both are of what it sees.
float exponentials(float* s, const float* bias, int from, int to, int first, int end, float* sum) {
  const F log2e = set1(kLog2e);
  for (int j = from; bias && j < to; j += 16) {
    const F b = to - j < 16 ? load_part(bias + j, to - j) : load(bias + j);
    store(s + j, fma(b, log2e, load(s + j)));
  }
  const int stop = (to + 15) / 16 * 16;
  for (int j = from; j < first && j < stop; j++) s[j] = -__builtin_inff();
  for (int j = end > from ? end : from; j < stop; j++) s[j] = -__builtin_inff();
  F top = set1(kLowest);
  for (int j = from; j < stop; j += 16) top = max(top, load(s + j));
  const float highest = reduce_max(top);
  F total = zero();
  for (int j = from; j < stop; j += 16) {
    const F p = exp2(sub(load(s + j), set1(highest)));
    store(s + j, p);
    total = add(total, p);
  }
  *sum = reduce_add(total);
  return highest;
}

size_t splits_row(const DecodeHead& head) { return static_cast<size_t>(head.splits + 15) / 16 * 16; }

void run_split(const Plan& plan, const DecodeHead& head, const Desk& desk, int split, Cursor keys, Cursor values) {
  const View& view = *head.view;
  const int r0 = split * kSplit, index = split - head.split;
  const int lo = head.lo > r0 ? head.lo : r0, hi = head.hi < r0 + kSplit ? head.hi : r0 + kSplit;
  Cursor later = values;
  later.row += lo - r0;
  const uint8_t* value_page = view.values[settle(view.values, later).piece].page;
  score_split(plan, head, desk, keys, r0, lo, hi, value_page);
  const int from = (lo - r0) / 16 * 16;
  for (int r = 0; r < head.rows; r++) {
    const int i = r / plan.group;
    const size_t place = static_cast<size_t>(r) * splits_row(head) + static_cast<size_t>(index);
    float* s = desk.s + static_cast<size_t>(r) * kScoreRow;
    const float* bias = view.bias ? view.bias + r0 : nullptr;
    head.top[place] = exponentials(s, bias, from, hi - r0, view.first[i] - r0, view.end[i] - r0, &head.sum[place]);
    if (!head.p) continue;
    float* p = head.p + static_cast<size_t>(r * head.splits + index) * kSplit;
    __builtin_memcpy(p + (lo - r0), s + (lo - r0), 4 * static_cast<size_t>(hi - lo));
  }
  const uint8_t* after = value_page;
  keys.row += kSplit;
  if (r0 + kSplit < head.hi) after = view.keys[settle(view.keys, keys).piece].page;
  float* out = head.out + static_cast<size_t>(index * head.rows) * static_cast<size_t>(plan.shape->head_size);
  add_values(plan, head, desk, values, r0, lo, hi, after, out);
}

// Turns a row's maxima into the weights of its splits (where nothing was seen, sum and output are 0); returns the
// maximum, sets the sum.
float weigh_splits(const DecodeHead& head, int row, float* sum) {
  float* top = head.top + static_cast<size_t>(row) * splits_row(head);
  const float* sums = head.sum + static_cast<size_t>(row) * splits_row(head);
  float highest = kLowest, total = 0;
  for (int s = 0; s < head.splits; s++) highest = top[s] > highest ? top[s] : highest;
  for (int s = 0; s < head.splits; s += 16) {
    float weight[16];
    const int n = head.splits - s < 16 ? head.splits - s : 16;
    store(weight, exp2(sub(load_part(top + s, n), set1(highest))));
    for (int i = 0; i < n; i++) {
      top[s + i] = weight[i];
      total += weight[i] * sums[s + i];
    }
  }
  *sum = total;
  return highest;
}

void merge_row(const Plan& plan, const DecodeHead& head, int row) {
  const AttentionJob& job = *head.job;
  const int d = plan.shape->head_size, i = row / plan.group, h = head.kv * plan.group + row % plan.group;
  float sum;
  const float top = weigh_splits(head, row, &sum);
  float* weight = head.top + static_cast<size_t>(row) * splits_row(head);
  for (int s = 0; s < head.splits; s++) weight[s] = sum > 0 ? weight[s] / sum : 0;
  if (job.lse) job.lse[i * plan.shape->heads + h] = sum > 0 ? kLn2 * top + __builtin_logf(sum) : -__builtin_inff();
  float* y = job.out + static_cast<size_t>(i) * job.ldo + h * d;
  const size_t step = static_cast<size_t>(head.rows) * static_cast<size_t>(d);
  for (int c = 0; c < d; c += 16) {
    const float* part = head.out + row * d + c;
    F total = zero();
    for (int s = 0; s < head.splits; s++, part += step) total = fma(set1(weight[s]), load(part), total);
    store(y + c, total);
  }
}

// mass[j] += the mean over the group, summed over the query rows in their order.
void add_mass(const Plan& plan, const DecodeHead& head) {
  const float share = 1 / static_cast<float>(plan.group);
  for (int s = 0; s < head.splits; s++) {
    const int r0 = (head.split + s) * kSplit;
    const int lo = head.lo > r0 ? head.lo : r0, hi = head.hi < r0 + kSplit ? head.hi : r0 + kSplit;
    for (int row = 0; row < head.rows; row++) {
      const float weight = head.top[static_cast<size_t>(row) * splits_row(head) + static_cast<size_t>(s)] * share;
      const float* p = head.p + static_cast<size_t>(row * head.splits + s) * kSplit;
      for (int j = lo; j < hi && weight > 0; j += 16) {
        const int n = hi - j < 16 ? hi - j : 16;
        float* mass = head.view->mass + j;
        if (n == 16) {
          store(mass, fma(load(p + (j - r0)), set1(weight), load(mass)));
        } else {
          store_part(mass, fma(load_part(p + (j - r0), n), set1(weight), load_part(mass, n)), n);
        }
      }
    }
  }
}

}  // namespace

size_t decode_floats(const AttentionShape& shape, int rows) noexcept {
  const size_t d = static_cast<size_t>(shape.head_size);
  return up_to_4(rows) * (d + kScoreRow + d / 2) + (shape.cos ? d * 16 : 0);
}

void run_decode_task(const Plan& plan, int index, int worker) noexcept {
  const DecodeTask& task = plan.tasks[index];
  DecodeHead& head = plan.decode[task.head];
  const Desk desk = desk_of(plan, worker, head.rows);
  if (task.splits > 0) scale_queries(plan, head, desk);
  Cursor keys = task.keys, values = task.values;
  for (int s = task.split; s < task.split + task.splits; s++) {
    run_split(plan, head, desk, s, keys, values);
    keys.row += kSplit;
    values.row += kSplit;
  }
  if (__atomic_sub_fetch(&head.left, 1, __ATOMIC_ACQ_REL) > 0) return;
  for (int row = 0; row < head.rows; row++) merge_row(plan, head, row);
  if (head.p) add_mass(plan, head);
}

}  // namespace tokensieve::kernels::TS_ISA
