// Decode: pages are read in place. A task takes some splits of one head; whoever finishes a head's last task merges it.
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/page_layout.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

// A worker's part of the scratch, for `rows` query rows.
struct Desk {
  float* q;  // [rows][head_size], times scale * log2(e)
  float* s;  // [rows][kScoreRow]: scores, then exponentials
  DotQueries numbers;
  float* opened;  // [head_size][16]: keys that are rotated when read
  bool counted;  // numbers hold the query rows
};

size_t up_to_4(int rows) { return static_cast<size_t>(rows + 3) / 4 * 4; }

Desk desk_of(const Plan& plan, int worker, int rows) {
  const size_t d = static_cast<size_t>(plan.shape->head_size), n = up_to_4(rows);
  float* q = reinterpret_cast<float*>(plan.workers + plan.worker_bytes * static_cast<size_t>(worker));
  float* s = q + n * d;
  uint8_t* units = reinterpret_cast<uint8_t*>(s + n * kScoreRow);
  float* scales = s + n * (kScoreRow + d);
  int32_t* zeros = reinterpret_cast<int32_t*>(scales + n * d / 32);
  float* opened = scales + 3 * n * d / 32;
  return {q, s, {units, units + 2 * n * d, scales, zeros, zeros + n * d / 32}, opened, false};
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

// What a split reads of one side.
struct Reading {
  int count;
  Slice slices[kSplit];
};

// Rows [lo, hi) of a split that begins at row r0, where `at` stands; leaves it where they end.
void find_slices(const Piece* pieces, Cursor* cursor, int r0, int lo, int hi, Reading* to) {
  to->count = 0;
  Cursor at = *cursor;
  at.row += lo - r0;
  for (int row = lo; row < hi;) {
    at = settle(pieces, at);
    Piece piece = pieces[at.piece];
    const int rest = piece.count - at.row, n = rest < hi - row ? rest : hi - row;
    piece.first = static_cast<int16_t>(piece.first + at.row);
    piece.count = static_cast<int16_t>(n);
    to->slices[to->count++] = {piece, row - r0, piece.page};
    row += n;
    at.row += n;
  }
  *cursor = at;
}

// Page after page of what is read now brings nearer the page that is read as much later as a side of a split takes.
void look_ahead(Reading* now, const Reading& later) {
  for (int i = 0; i < now->count && i < later.count; i++) now->slices[i].ahead = later.slices[i].piece.page;
}

// Scores of cache rows [lo, hi) of a split that begins at row r0, where `at` stands.
void score_split(const Plan& plan, const DecodeHead& head, Desk& desk, const Reading& keys, Cursor at, int r0, int lo,
                 int hi) {
  const int d = plan.shape->head_size;
  if (plan.shape->cos) {
    at.row += lo / 16 * 16 - r0;
    for (int row = lo / 16 * 16; row < hi; row += 16) {
      const int rest = head.view->rows - row, n = rest < 16 ? rest : 16;
      at = open_keys(*plan.shape, *head.view, at, row, n, desk.opened);
      const uint8_t* block = reinterpret_cast<const uint8_t*>(desk.opened);
      key_scores({{block, 0, 16, DType::f32}, 0, block}, d, desk.q, head.rows, desk.s + (row - r0));
    }
    return;
  }
  for (int i = 0; i < keys.count; i++) {
    const Slice& slice = keys.slices[i];
    float* s = desk.s + slice.column;
    if (is_plain(slice.piece.type)) {
      key_scores(slice, d, desk.q, head.rows, s);
    } else {
      if (!desk.counted) quantize_queries(desk.q, d, head.rows, desk.numbers);
      desk.counted = true;
      key_dots(slice, d, desk.q, desk.numbers, head.rows, s);
    }
  }
}

void add_values(const Plan& plan, const DecodeHead& head, const Desk& desk, const Reading& values, float* out) {
  const int d = plan.shape->head_size;
  for (int i = 0; i < head.rows * d; i += 16) store(out + i, zero());
  for (int i = 0; i < values.count;) {
    const Slice* slice = values.slices + i;
    const DType type = slice->piece.type;
    int n = 1;
    if (is_plain(type)) {
      while (i + n < values.count && slice[n].piece.type == type) n++;
      value_sums(slice, n, d, desk.s, head.rows, out);
    } else {
      while (i + n < values.count && !is_plain(slice[n].piece.type)) n++;
      value_dots(slice, n, d, desk.s, head.rows, out);
    }
    i += n;
  }
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

// The rows of a split that some query row sees.
Range seen_of(const DecodeHead& head, int split) {
  const int r0 = split * kSplit;
  return {head.lo > r0 ? head.lo : r0, head.hi < r0 + kSplit ? head.hi : r0 + kSplit};
}

void run_split(const Plan& plan, const DecodeHead& head, Desk& desk, int split, Cursor at, const Reading& keys,
               const Reading& values) {
  const View& view = *head.view;
  const int r0 = split * kSplit, index = split - head.split;
  const auto [lo, hi] = seen_of(head, split);
  score_split(plan, head, desk, keys, at, r0, lo, hi);
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
  float* out = head.out + static_cast<size_t>(index * head.rows) * static_cast<size_t>(plan.shape->head_size);
  add_values(plan, head, desk, values, out);
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
    const auto [lo, hi] = seen_of(head, head.split + s);
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

// The keys that a task begins with.
void find_first_keys(const Plan& plan, int index, Reading* to) {
  if (index >= plan.task_count || plan.tasks[index].splits == 0) return;
  const DecodeTask& task = plan.tasks[index];
  const DecodeHead& head = plan.decode[task.head];
  const auto [lo, hi] = seen_of(head, task.split);
  Cursor at = task.keys;
  find_slices(head.view->keys, &at, task.split * kSplit, lo, hi, to);
}

}  // namespace

size_t decode_floats(const AttentionShape& shape, int rows) noexcept {
  const size_t d = static_cast<size_t>(shape.head_size);
  return up_to_4(rows) * (d + kScoreRow + d + d / 8) + (shape.cos ? d * 16 : 0);
}

int take_decode_task(const Plan& plan) noexcept { return __atomic_fetch_add(plan.taken, 1, __ATOMIC_RELAXED); }

int run_decode_task(const Plan& plan, int index, int worker) noexcept {
  const DecodeTask& task = plan.tasks[index];
  DecodeHead& head = plan.decode[task.head];
  Desk desk = desk_of(plan, worker, head.rows);
  if (task.splits > 0) scale_queries(plan, head, desk);
  Cursor key_at = task.keys, value_at = task.values, at = key_at;
  const View& view = *head.view;
  Reading keys[2], values;
  const int end = task.split + task.splits;
  int following = -1;
  for (int s = task.split; s < end; s++, at.row += kSplit) {
    const auto [lo, hi] = seen_of(head, s);
    Reading& now = keys[s & 1];
    Reading& next = keys[~s & 1];
    if (s == task.split) find_slices(view.keys, &key_at, s * kSplit, lo, hi, &now);
    find_slices(view.values, &value_at, s == task.split ? s * kSplit : lo, lo, hi, &values);
    next.count = 0;
    if (s + 1 < end) {
      find_slices(view.keys, &key_at, hi, hi, seen_of(head, s + 1).hi, &next);
    } else {
      following = take_decode_task(plan);
      find_first_keys(plan, following, &next);
    }
    look_ahead(&now, values);
    look_ahead(&values, next);
    run_split(plan, head, desk, s, at, now, values);
  }
  if (following < 0) following = take_decode_task(plan);
  if (__atomic_sub_fetch(&head.left, 1, __ATOMIC_ACQ_REL) > 0) return following;
  for (int row = 0; row < head.rows; row++) merge_row(plan, head, row);
  if (head.p) add_mass(plan, head);
  return following;
}

}  // namespace tokensieve::kernels::TS_ISA
