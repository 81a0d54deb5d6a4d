// The host's half of attention and its probe: views flattened into a table, and the table on the device.
#pragma once

#include "kernels/cuda/attention_view.h"

namespace tokensieve::kernels::cuda {

inline HeadShape head_shape(const AttentionShape& shape) {
  HeadShape s;
  s.cos = shape.cos;
  s.sin = shape.sin;
  s.heads = shape.heads;
  s.group = shape.heads / shape.kv_heads;
  s.head_size = shape.head_size;
  s.half = shape.cos ? shape.rotated / 2 : 0;
  s.table_rows = shape.table_rows;
  s.scale = shape.scale;
  return s;
}

// Heads of the jobs of a call; kept by the caller's thread, so that a step allocates nothing.
class Plan {
 public:
  std::vector<HeadView> heads;

  void clear() {
    heads.clear();
    sections_.clear();
    table_.clear();
  }

  // rows: with what the device needs; else only what the host decides by.
  HeadView& add(const AttentionShape& shape, const AttentionJob& job, int kv, float* scratch, bool rows) {
    const View& view = job.views[kv];
    const int group = shape.heads / shape.kv_heads, first = kv * group;
    HeadView head = {};
    head.q = job.q + first * shape.head_size;
    head.out = job.out ? job.out + first * shape.head_size : nullptr;
    head.lse = job.lse ? job.lse + first : nullptr;
    head.bias = view.bias;
    head.mass = view.mass;
    head.scratch = scratch;
    head.ldq = job.ldq;
    head.ldo = job.ldo;
    head.n = job.n;
    head.rows = view.rows;
    cover(view, 0, job.n, &head.from, &head.to);
    heads.push_back(head);
    if (!rows) return heads.back();
    sections_.push_back({add_pieces(view.keys, view.key_pieces, view.rows),
                         add_pieces(view.values, view.value_pieces, view.rows), table_.add(view.first, job.n),
                         table_.add(view.end, job.n)});
    return heads.back();
  }

  // The rows that the query rows [i, end) see lie in [from, to); 0, 0 where they see none.
  static void cover(const View& view, int i, int end, int* from, int* to) {
    *from = view.rows;
    *to = 0;
    for (; i < end; i++) {
      if (view.first[i] >= view.end[i]) continue;
      if (view.first[i] < *from) *from = view.first[i];
      if (view.end[i] > *to) *to = view.end[i];
    }
    if (*from >= *to) *from = *to = 0;
  }

  // Pieces and ranges go to the device; the heads, which point to them, may go there after that.
  void send_rows(Team& team) {
    const void* there = table_.send(team);
    for (size_t i = 0; i < heads.size(); i++) {
      const Sections& s = sections_[i];
      heads[i].keys = {Table::there<RowPiece>(there, s.keys.items), Table::there<int32_t>(there, s.keys.blocks)};
      heads[i].values = {Table::there<RowPiece>(there, s.values.items), Table::there<int32_t>(there, s.values.blocks)};
      heads[i].first = Table::there<int32_t>(there, s.first);
      heads[i].end = Table::there<int32_t>(there, s.end);
    }
  }

 private:
  struct Side {
    size_t items, blocks;
  };
  struct Sections {
    Side keys, values;
    size_t first, end;
  };

  Side add_pieces(const Piece* pieces, int count, int rows) {
    items_.clear();
    blocks_.clear();
    int start = 0;
    for (int i = 0; i < count; i++) {
      const Piece& piece = pieces[i];
      if (piece.count == 0) continue;
      const int end = start + piece.count, index = static_cast<int>(items_.size());
      while (static_cast<int>(blocks_.size()) * kBlockRows < end) blocks_.push_back(index);
      items_.push_back(
          {piece.page, start, static_cast<uint8_t>(piece.first), static_cast<uint8_t>(piece.count), piece.type});
      start = end;
    }
    while (static_cast<int>(blocks_.size()) <= (rows + kBlockRows - 1) / kBlockRows) {
      blocks_.push_back(static_cast<int>(items_.size()) - 1);
    }
    return {table_.add(items_.data(), items_.size()), table_.add(blocks_.data(), blocks_.size())};
  }

  std::vector<Sections> sections_;
  std::vector<RowPiece> items_;
  std::vector<int32_t> blocks_;
  Table table_;
};

}  // namespace tokensieve::kernels::cuda
