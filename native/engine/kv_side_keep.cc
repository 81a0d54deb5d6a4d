// Many rows at once: a new chain of the survivors, built beside the old one, so that a failure changes nothing.
#include <algorithm>

#include "engine/kv_side.h"

namespace tokensieve {

using kernels::kPageRows;
using kernels::Piece;

// The pieces [from, to) of one page of kivi keys; its `rows` rows begin at `row`, and index[begin, end) are those of
// them that stay.
struct KvSide::Group {
  size_t from, to;
  int row, rows, begin, end;
  int kept() const { return end - begin; }
};

KvSide KvSide::kept(const int32_t* index, int n, PageWork& work) const {
  KvSide next(*format_);
  work.before_reading(mark_);
  PageWork::Making making{work};
  next.make_room(static_cast<size_t>(n / kPageRows) + 2);
  keep_parts(Part::coarse, 0, index, n, work, &next);
  making.made = true;
  return next;
}

// Of the rows from this part on, whose first one is `row`.
void KvSide::keep_parts(Part first, int row, const int32_t* index, int n, PageWork& work, KvSide* next) const {
  int from = 0;
  for (Part part : kParts) {
    if (part < first) continue;
    const int to = static_cast<int>(std::lower_bound(index, index + n, row + rows(part)) - index);
    if (format_->groups(part)) {
      keep_groups(part, row, index + from, to - from, work, next);
    } else {
      keep_part(part, row, index + from, to - from, work, next);
    }
    next->close(part);
    next->count(part) = to - from;
    row += rows(part);
    from = to;
  }
}

// Full pages at the front of which every row stays are shared with the old chain; all other rows go to full new pages.
void KvSide::keep_part(Part part, int row, const int32_t* index, int n, PageWork& work, KvSide* next) const {
  const SideFormat::Page& page = format_->page(part);
  size_t from = begin(part);
  int k = 0;
  const auto whole = [&](const Piece& piece) {
    const bool led = from == begin(part) && part != Part::sinks && piece.first == format_->sinks % kPageRows;
    return piece.first + piece.count == page.rows && (piece.first == 0 || led);
  };
  for (; from < end(part) && whole(pieces_[from]); from++) {
    const int count = pieces_[from].count;
    if (k + count > n || index[k + count - 1] != row + count - 1) break;
    next->share(part, pieces_[from]);
    row += count;
    k += count;
  }
  for (int room = 0, count; k < n; k += count, room -= count) {
    for (; index[k] >= row + pieces_[from].count; from++) row += pieces_[from].count;
    if (room == 0) {
      next->make_room(1);
      const int first = part == Part::open && next->begin(part) == next->pieces_.size() ? next->lead() : 0;
      next->pieces_.push_back({next->new_page(page.bytes, work), static_cast<int16_t>(first), 0, page.type});
      work.apart(&next->mark_);
      room = page.rows - first;
    }
    const int first = index[k] - row, most = std::min({n - k, room, pieces_[from].count - first});
    for (count = 1; count < most && index[k + count] == index[k] + count;) count++;
    Piece& open = next->pieces_.back();
    move_rows(pieces_[from], first, open, open.count, count, work);
    open.count = static_cast<int16_t>(open.count + count);
  }
}

// Groups that keep more than kSparseRows rows stay as they are, with gaps: their values do not change. Runs of sparser
// ones are read back and quantized again as full groups where that saves a page. A value so moves by half a step of its
// new group at most, beside what its first quantization did.
void KvSide::keep_groups(Part part, int row, const int32_t* index, int n, PageWork& work, KvSide* next) const {
  std::vector<Group> groups;
  int k = 0;
  for (size_t from = begin(part); from < end(part);) {
    Group group{from, from, row, 0, k, k};
    for (; group.to < end(part) && pieces_[group.to].page == pieces_[from].page; group.to++)
      row += pieces_[group.to].count;
    group.rows = row - group.row;
    while (k < n && index[k] < row) k++;
    group.end = k;
    if (group.kept() > 0) groups.push_back(group);
    from = group.to;
  }
  for (size_t i = 0; i < groups.size();) {
    size_t stop = i;
    int rows = 0;
    for (; stop < groups.size() && groups[stop].kept() <= kSparseRows; stop++) rows += groups[stop].kept();
    if (static_cast<size_t>((rows + kPageRows - 1) / kPageRows) < stop - i) {
      merge_groups(part, groups.data() + i, stop - i, index, work, next);
    } else {
      stop = std::max(stop, i + 1);
      for (size_t j = i; j < stop; j++) keep_group(part, groups[j], index, next);
    }
    i = stop;
  }
}

void KvSide::keep_group(Part part, const Group& group, const int32_t* index, KvSide* next) const {
  size_t at = group.from;
  int row = group.row;
  for (int k = group.begin; k < group.end;) {
    for (; index[k] >= row + pieces_[at].count; at++) row += pieces_[at].count;
    const int first = index[k] - row;
    int count = 1;
    while (k + count < group.end && first + count < pieces_[at].count && index[k + count] == index[k] + count) count++;
    next->share(part, {pieces_[at].page, static_cast<int16_t>(pieces_[at].first + first), static_cast<int16_t>(count),
                       pieces_[at].type});
    k += count;
  }
}

void KvSide::merge_groups(Part part, const Group* groups, size_t n, const int32_t* index, PageWork& work,
                          KvSide* next) const {
  int filled = 0;
  for (const Group* group = groups; group < groups + n; group++) {
    size_t at = group->from;
    int row = group->row;
    for (int k = group->begin; k < group->end; k++) {
      for (; index[k] >= row + pieces_[at].count; at++) row += pieces_[at].count;
      if (filled == 0) {
        work.apart(&next->mark_);
        work.hold(kPageRows + 1);
      }
      work.load(format_->side, {pieces_[at].page, pieces_[at].type, pieces_[at].first + index[k] - row}, filled++, 1);
      if (filled < kPageRows && (k + 1 < group->end || group + 1 < groups + n)) continue;
      uint8_t* page = next->add_page(part, 0, filled, work);
      work.group(0, filled, {page, format_->page(part).type, 0});
      filled = 0;
    }
  }
}

}  // namespace tokensieve
