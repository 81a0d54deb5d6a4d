// Runs of rows against a plain list of them.
#include "engine/row_sources.h"

#include <algorithm>

#include "check.h"

using tokensieve::RowSources;
using tokensieve::runs_in;

namespace {

struct Both {
  RowSources runs;
  std::vector<int32_t> list;

  void append(const std::vector<int32_t>& more) {
    runs.reserve(runs_in(more.data(), static_cast<int>(more.size())));
    const size_t room = runs.bytes();
    runs.append(more.data(), static_cast<int>(more.size()));
    CHECK_EQ(runs.bytes(), room);  // it never fails
    list.insert(list.end(), more.begin(), more.end());
  }
  void remove(int row) {
    CHECK(runs.remove(row));
    list.erase(list.begin() + row);
  }
  void remove_first(int n) {
    const size_t room = runs.bytes();
    runs.remove_first(n);
    CHECK_EQ(runs.bytes(), room);
    list.erase(list.begin(), list.begin() + std::min<ptrdiff_t>(n, static_cast<ptrdiff_t>(list.size())));
  }
  void cut(size_t rows) {
    runs.cut(rows);
    list.resize(std::min(rows, list.size()));
  }

  void check() const {
    if (!CHECK(runs.size() == list.size() && runs.all() == list)) return;
    bool same = true;
    int leading = 0;
    for (size_t i = 0; i < list.size(); i++) {
      const int row = static_cast<int>(i);
      same = same && runs[i] == list[i] && runs.row_of(list[i]) == row && runs.up_to(list[i]) == row + 1;
      same = same && runs.up_to(list[i] - 1) == row;
      if (i + 1 < list.size() && list[i + 1] > list[i] + 1) {
        same = same && runs.row_of(list[i] + 1) == -1 && runs.up_to(list[i + 1] - 1) == row + 1;
      }
      leading += leading == row && list[i] == row;
    }
    CHECK(same);
    CHECK_EQ(runs.leading(), leading);
    CHECK_EQ(runs.up_to(-1), 0);
    RowSources again;
    again.assign(list);
    CHECK(again == runs);
  }
};

std::vector<int32_t> rows_from(int32_t first, int n) {
  std::vector<int32_t> rows;
  for (int i = 0; i < n; i++) rows.push_back(first + i);
  return rows;
}

}  // namespace

TEST("what a run costs") {
  Both rows;
  rows.append(rows_from(0, 1000));
  rows.append(rows_from(1000, 24));
  rows.check();
  CHECK(rows.runs.bytes() <= 24);  // 4 bytes, and room for what comes and goes
  RowSources apart;
  apart.assign({0, 2, 4, 6, 8, 10, 12, 14, 16, 18});
  CHECK(apart.bytes() <= 10 * 4 + 12);  // never more than a list
  CHECK_EQ(runs_in(rows.list.data(), 1000), size_t{1});
}

TEST("rows that go: inside a run, at its ends, a run of one") {
  Both rows;
  rows.append(rows_from(0, 10));
  rows.append({20, 30, 31, 32});
  for (int row : {5, 0, 8, 8, 8, 3, 7, 0}) rows.remove(row), rows.check();  // 20 alone; the first; the last
  const std::vector<int32_t> picked = {0, 2, 3};
  CHECK(rows.runs.some(picked.data(), 3) == std::vector<int32_t>({rows.list[0], rows.list[2], rows.list[3]}));
  rows.remove_first(2), rows.check();
  rows.append({40}), rows.check();
  rows.remove_first(100), rows.check();
  rows.append({7, 9}), rows.check();
}

TEST("gaps and runs above 65,535") {
  Both rows;
  rows.append({3, 65535 + 4, 200000, 200001, 2000000000});
  rows.check();
  rows.append({2000000002, 2000100000, 2000200000, 2000300000});
  rows.check();
  for (int row : {6, 2, 1, 1, 0}) rows.remove(row), rows.check();
  Both window;  // the first rows go as new ones come
  for (int at = 0; at < 200000; at += 20000) {
    window.append(rows_from(at, 20000));
    if (at > 0) window.remove_first(20000);
  }
  window.remove_first(19990), window.check();
  Both all;
  all.append(rows_from(0, 140000));
  CHECK_EQ(all.runs.leading(), 140000);
  CHECK_EQ(all.runs.up_to(100000), 100001);
  all.cut(70000);
  CHECK_EQ(all.runs[69999], 69999);
}

TEST("any order of changes") {
  for (uint64_t seed = 1; seed <= 40; seed++) {
    check::Random random(seed);
    Both rows;
    int32_t token = 0;
    for (int step = 0; step < 120; step++) {
      const int size = static_cast<int>(rows.list.size());
      switch (random.below(6)) {
        case 0: {
          std::vector<int32_t> more;
          for (int i = 0; i < 1 + random.below(20); i++) {
            token += random.below(8) == 0 ? (random.below(4) == 0 ? 70000 * random.below(3) : random.below(9)) : 0;
            more.push_back(token++);
          }
          rows.append(more);
          break;
        }
        case 1: rows.remove_first(random.below(4)); break;
        case 2: {
          if (size == 0) break;
          rows.cut(static_cast<size_t>(size - random.below(3)));
          token = rows.list.empty() ? 0 : rows.list.back() + 1;
          break;
        }
        default:
          if (size > 0) rows.remove(random.below(size));
      }
      rows.runs.reserve(1);
      rows.check();
    }
  }
}
