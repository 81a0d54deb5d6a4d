// Attention's plan: who reads which rows, and where in the scratch everything lies. It is made twice, once without
// memory to learn its size, and depends on nothing but the shape, the jobs and the number of threads.
#include "kernels/attention.h"

#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

constexpr int kDecodeRows = 4;  // a job of more query rows takes the prefill path

#if defined(TS_ISA_BF16)
constexpr Form kFine = Form::bf16;
#else
constexpr Form kFine = Form::f32;
#endif
#if defined(TS_ISA_INTS)
constexpr Form kFast = Form::int8;
#else
constexpr Form kFast = kFine;
#endif

bool any_f32(const Piece* pieces, int count) {
  for (int i = 0; i < count; i++) {
    if (pieces[i].type == DType::f32) return true;
  }
  return false;
}

Form form_of(const AttentionShape& shape, const View& view) {
  if (any_f32(view.keys, view.key_pieces) || any_f32(view.values, view.value_pieces)) return Form::f32;
  return shape.fine ? kFine : kFast;
}

// Hands out the scratch in order, or counts it where there is none.
struct Arena {
  uint8_t* memory;
  size_t used;

  template <class T>
  T* take(size_t n) {
    T* at = memory ? reinterpret_cast<T*>(memory + used) : nullptr;
    used += (n * sizeof(T) + 63) / 64 * 64;
    return at;
  }
};

struct Counts {
  int decode, splits, prefill, chunks, tiles, decode_rows, mass_rows;
};

struct Call {
  const AttentionShape& shape;
  const AttentionJob* jobs;
  int count, threads, group;
};

Range decode_splits(const Range& rows) { return {rows.lo / kSplit, up(rows.hi, kSplit)}; }
int prefill_base(const Range& rows) { return rows.lo / kTileKeys * kTileKeys; }
int prefill_end(const Range& rows) { return up(rows.hi, 32) * 32; }

Counts count_parts(const Call& call) {
  Counts sum{};
  for (int j = 0; j < call.count; j++) {
    const AttentionJob& job = call.jobs[j];
    for (int h = 0; h < call.shape.kv_heads; h++) {
      const Range rows = seen(job.views[h], job.n);
      if (job.n <= kDecodeRows) {
        const Range splits = decode_splits(rows);
        sum.decode++;
        sum.splits += splits.hi - splits.lo;
        sum.decode_rows = job.n * call.group > sum.decode_rows ? job.n * call.group : sum.decode_rows;
      } else {
        const int opened = prefill_end(rows) - prefill_base(rows);
        sum.prefill++;
        if (job.views[h].mass && opened > sum.mass_rows) sum.mass_rows = opened;
        sum.chunks += up(opened, kChunkRows);
        sum.tiles += up(job.n * call.group, kTileRows);
      }
    }
  }
  return sum;
}

// `per_task` splits make a task: enough tasks for all threads, but none too small to be worth handing out.
void add_decode(const Call& call, const AttentionJob& job, int kv, int per_task, Arena* arena, Plan* plan, int* heads) {
  const View& view = job.views[kv];
  const Range rows = seen(view, job.n), splits = decode_splits(rows);
  DecodeHead head{
      &job,    &view,   kv,     job.n * call.group, rows.lo, rows.hi, splits.lo, splits.hi - splits.lo, 0, nullptr,
      nullptr, nullptr, nullptr};
  const size_t parts = static_cast<size_t>(head.splits) * static_cast<size_t>(head.rows);
  const size_t line = static_cast<size_t>(up(head.splits, 16) * 16 * head.rows);
  head.out = arena->take<float>(parts * static_cast<size_t>(call.shape.head_size));
  head.top = arena->take<float>(line);
  head.sum = arena->take<float>(line);
  if (view.mass) head.p = arena->take<float>(parts * kSplit);
  if (!arena->memory) return;
  const int tasks = head.splits > 0 ? up(head.splits, per_task) : 1;
  head.left = tasks;
  Cursor keys{0, splits.lo * kSplit}, values = keys;
  for (int t = 0; t < tasks; t++) {
    const int done = t * per_task, some = head.splits - done < per_task ? head.splits - done : per_task;
    if (some > 0) {
      keys = settle(view.keys, keys);
      values = settle(view.values, values);
    }
    plan->tasks[plan->task_count++] = {*heads, splits.lo + done, some, keys, values};
    keys.row += per_task * kSplit;
    values.row += per_task * kSplit;
  }
  plan->decode[(*heads)++] = head;
}

void add_prefill(const Call& call, const AttentionJob& job, int kv, Arena* arena, Plan* plan, int* heads) {
  const View& view = job.views[kv];
  const Range rows = seen(view, job.n);
  PrefillHead head{};
  head.job = &job, head.view = &view, head.kv = kv;
  head.base = prefill_base(rows), head.end = prefill_end(rows);
  head.form = form_of(call.shape, view);
  const size_t opened = static_cast<size_t>(head.end - head.base);
  const size_t bytes = opened * static_cast<size_t>(call.shape.head_size * number_bytes(head.form));
  head.keys = arena->take<uint8_t>(bytes);
  head.values = arena->take<uint8_t>(bytes);
  if (head.form == Form::int8) {
    head.scales = {arena->take<float>(opened), arena->take<float>(opened), arena->take<float>(opened)};
  }
  const int runs = up(up(job.n * call.group, kTileRows), kMassTiles);
  if (view.mass) head.mass = arena->take<float>(static_cast<size_t>(runs) * opened);
  if (!arena->memory) return;
  head.key_start = {0, head.base};
  head.value_start = {0, head.base};
  if (opened > 0) {
    head.key_start = settle(view.keys, head.key_start);
    head.value_start = settle(view.values, head.value_start);
  }
  for (int c = 0; c < up(head.end - head.base, kChunkRows); c++) plan->chunks[plan->chunk_count++] = {*heads, c};
  plan->prefill[(*heads)++] = head;
}

// Head by head, so that its opened rows stay in a near cache; later query rows see more, so the last tile first: what
// is left for the end is small.
void order_tiles(const Call& call, const Counts& counts, Plan* plan) {
  for (int h = 0; h < counts.prefill; h++) {
    const PrefillHead& head = plan->prefill[h];
    for (int t = up(up(head.job->n * call.group, kTileRows), head.mass ? kMassTiles : 1) - 1; t >= 0; t--) {
      plan->tiles[plan->tile_count++] = {h, t};
    }
  }
}

// Lays everything out in `scratch` (null: only counts) and returns the bytes.
size_t make_plan(const Call& call, uint8_t* scratch, Plan* plan) {
  const Counts counts = count_parts(call);
  const AttentionShape& shape = call.shape;
  Arena arena{scratch, 0};
  *plan = {};
  plan->shape = &shape;
  plan->group = call.group;
  plan->decode = arena.take<DecodeHead>(static_cast<size_t>(counts.decode));
  plan->tasks = arena.take<DecodeTask>(static_cast<size_t>(counts.splits + counts.decode));
  plan->taken = arena.take<int>(1);
  plan->prefill = arena.take<PrefillHead>(static_cast<size_t>(counts.prefill));
  plan->chunks = arena.take<Part>(static_cast<size_t>(counts.chunks));
  plan->tiles = arena.take<Part>(static_cast<size_t>(counts.tiles));
  size_t floats = counts.decode > 0 ? decode_floats(shape, counts.decode_rows) : 0;
  const size_t prefill_part = counts.prefill > 0 ? prefill_floats(shape, counts.mass_rows) : 0;
  if (prefill_part > floats) floats = prefill_part;
  plan->mass_rows = counts.mass_rows;
  plan->worker_bytes = (4 * floats + 63) / 64 * 64;
  plan->workers = arena.take<uint8_t>(plan->worker_bytes * static_cast<size_t>(call.threads));
  int per_task = counts.splits / (8 * call.threads), decode = 0, prefill = 0;
  per_task = per_task < 1 ? 1 : per_task > 8 ? 8 : per_task;
  for (int j = 0; j < call.count; j++) {
    for (int h = 0; h < shape.kv_heads; h++) {
      if (call.jobs[j].n <= kDecodeRows) {
        add_decode(call, call.jobs[j], h, per_task, &arena, plan, &decode);
      } else {
        add_prefill(call, call.jobs[j], h, &arena, plan, &prefill);
      }
    }
  }
  if (!scratch) return arena.used;
  *plan->taken = 0;
  order_tiles(call, counts, plan);
  return arena.used;
}

// Cache rows of one chunk: mass += the lines of all runs.
void add_mass_chunk(const Plan& plan, int index) {
  const Part& part = plan.chunks[index];
  const PrefillHead& head = plan.prefill[part.head];
  if (!head.mass) return;
  const int width = head.end - head.base, from = part.index * kChunkRows;
  const int n = width - from < kChunkRows ? width - from : kChunkRows;
  const int runs = up(up(head.job->n * plan.group, kTileRows), kMassTiles);
  alignas(64) float sum[kChunkRows] = {};
  for (int run = 0; run < runs; run++) {
    const float* line = head.mass + static_cast<size_t>(run) * static_cast<size_t>(width) + from;
    for (int j = 0; j < n; j += 16) store(sum + j, add(load(sum + j), load(line + j)));
  }
  float* mass = head.view->mass + head.base + from;
  const int rows = head.view->rows - head.base - from;
  for (int j = 0; j < n && j < rows; j += 16) {
    const int some = rows - j < 16 ? rows - j : 16;
    if (some == 16) {
      store(mass + j, add(load(mass + j), load(sum + j)));
    } else {
      store_part(mass + j, add(load_part(mass + j, some), load(sum + j)), some);
    }
  }
}

void first_stage(void* context, int index, int worker) {
  const Plan& plan = *static_cast<const Plan*>(context);
  if (index < plan.chunk_count) return open_chunk(plan, index);
  for (int task = take_decode_task(plan); task < plan.task_count;) task = run_decode_task(plan, task, worker);
}

void second_stage(void* context, int index, int worker) { run_tile(*static_cast<const Plan*>(context), index, worker); }

void third_stage(void* context, int index, int) { add_mass_chunk(*static_cast<const Plan*>(context), index); }

}  // namespace

size_t attention_scratch(const AttentionShape& shape, const AttentionJob* jobs, int count, int threads) noexcept {
  Plan plan;
  return make_plan({shape, jobs, count, threads, shape.heads / shape.kv_heads}, nullptr, &plan);
}

void attention(const AttentionShape& shape, const AttentionJob* jobs, int count, void* scratch, Team& team) noexcept {
  Plan plan;
  make_plan({shape, jobs, count, team.size(), shape.heads / shape.kv_heads}, static_cast<uint8_t*>(scratch), &plan);
  const int decoders = plan.task_count < team.size() ? plan.task_count : team.size();
  if (plan.chunk_count + decoders > 0) team.run(plan.chunk_count + decoders, first_stage, &plan);
  if (plan.tile_count > 0) team.run(plan.tile_count, second_stage, &plan);
  if (plan.mass_rows > 0) team.run(plan.chunk_count, third_stage, &plan);
}

}  // namespace tokensieve::kernels::TS_ISA
