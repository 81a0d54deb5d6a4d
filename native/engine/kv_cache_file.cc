// A cache as a stream of bytes, little endian:
//   "TSKV", u32 layers, kv_heads, head_size, then keys, values (DType), sinks, recent, residual, fresh (DType) of all
//     heads, or where they differ of each in turn, u8 holds [layers]
//   for each head of each layer that holds rows:
//     u32 rows, u8 flags (1 sizes, 2 mass, 4 coarse rows), of those u32 how many come first, i32 source [rows], f32 size [rows], f32 mass [rows] and f64 of
//     what was evicted, keys, values
//   the same of the rows that are set aside, where there are any: u32 0 for a head that has none
//   a side: u32 sink rows, u32 packed rows, then the coarse part where there is one, the sinks, the packed part, the open part
//     a part is, where it holds rows, u8 places free at its front, then its rows in full pages, unused places zero; packed and coarse parts of kivi keys keep their pages, as their
//     scales belong to them:
//     u32 pieces, each u8 first, u8 count, u8 1 where it lies on the page of the piece before, else 0 and the page
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "core/error.h"
#include "engine/kv_cache.h"

namespace tokensieve {

using kernels::kPageRows;
using kernels::Piece;

namespace {

constexpr uint32_t kMagic = 0x564b5354;  // "TSKV"
enum : uint8_t { kSized = 1, kMassed = 2, kCoarsened = 4 };

[[noreturn]] void bad(const char* expected) {
  throw Error(Code::file_format, std::string("[saved cache] expected ") + expected + ", got something else");
}

std::vector<uint32_t> described(const CacheShape& shape) {
  std::vector<uint32_t> out;
  const auto add = [&](int value) { out.push_back(static_cast<uint32_t>(value)); };
  add(shape.layers), add(shape.kv_heads), add(shape.head_size);
  for (size_t i = 0; i < std::max<size_t>(1, shape.heads.size()); i++) {
    const HeadFormat& format = shape.format(i);
    add(static_cast<int>(format.keys)), add(static_cast<int>(format.values));
    add(format.in_float.sinks), add(format.in_float.recent), add(format.in_float.residual);
    add(static_cast<int>(format.in_float.fresh));
  }
  return out;
}

}  // namespace

namespace {

// The pages of a side where the host reads them: as they are, or brought from a device at once.
class HostPages {
 public:
  HostPages(const KvSide& side, const Device& device) : side_(side), brought_(device.queue != nullptr) {
    if (!brought_) return;
    const Memory& memory = *device.memory();
    size_t bytes = 0;
    for (const Part part : kParts) bytes += (side.end(part) - side.begin(part)) * side.format().page(part).bytes;
    lines_.resize((bytes + sizeof(Line) - 1) / sizeof(Line));
    uint8_t* to = lines_.empty() ? nullptr : lines_.data()->bytes;
    for (const Part part : kParts) {
      for (size_t i = side.begin(part); i < side.end(part); i++, to += side.format().page(part).bytes) {
        at_.push_back(to);
        memory.read(device.queue.get(), to, side.pieces()[i].page, side.format().page(part).bytes);
      }
    }
    device.wait();
  }
  const uint8_t* at(size_t piece) const { return brought_ ? at_[piece] : side_.pieces()[piece].page; }

 private:
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  const KvSide& side_;
  bool brought_;
  std::vector<Line> lines_;
  std::vector<const uint8_t*> at_;
};

}  // namespace

class KvCache::Writer {
 public:
  explicit Writer(std::string* out) : out_(out) {}

  void bytes(const void* data, size_t n) { out_->append(static_cast<const char*>(data), n); }
  void u8(size_t value) { out_->push_back(static_cast<char>(value)); }
  void u32(size_t value) {
    for (int shift = 0; shift < 32; shift += 8) u8(value >> shift & 255);
  }
  template <class T>
  void numbers(const T& values) {
    bytes(values.data(), values.size() * sizeof(typename T::value_type));
  }

  void side(const KvSide& side, const Device& device) {
    const HostPages pages(side, device);
    u32(static_cast<size_t>(side.rows(Part::sinks)));
    u32(static_cast<size_t>(side.rows(Part::packed)));
    for (Part p : kParts) {
      if (side.format().groups(p)) {
        if (p != Part::coarse || side.rows(p) > 0) groups(side, p, pages);
      } else {
        part(side, p, pages);
      }
    }
  }

 private:
  void groups(const KvSide& side, Part part, const HostPages& pages) {
    const size_t begin = side.begin(part), end = side.end(part);
    u32(end - begin);
    for (size_t i = begin; i < end; i++) {
      const Piece& piece = side.pieces()[i];
      const bool same = i > begin && side.pieces()[i - 1].page == piece.page;
      u8(static_cast<size_t>(piece.first));
      u8(static_cast<size_t>(piece.count));
      u8(same);
      if (!same) bytes(pages.at(i), side.format().page(part).bytes);
    }
  }
  void part(const KvSide& side, Part part, const HostPages& pages) {
    const SideFormat& format = side.format();
    const SideFormat::Page& form = format.page(part);
    std::vector<uint64_t> page(form.bytes / sizeof(uint64_t));
    if (side.begin(part) == side.end(part)) return;
    Team alone(1);
    int filled = side.pieces()[side.begin(part)].first;  // sums over a page go by where its rows lie
    u8(static_cast<size_t>(filled));
    auto flush = [&] {
      bytes(page.data(), form.bytes);
      std::fill(page.begin(), page.end(), 0);
      filled = 0;
    };
    for (size_t i = side.begin(part); i < side.end(part); i++) {
      const Piece& piece = side.pieces()[i];
      for (int row = 0; row < piece.count; row++) {
        format.backend->copy_row(format.side, form.type, format.head_size, pages.at(i), piece.first + row,
                                 reinterpret_cast<uint8_t*>(page.data()), filled, alone);
        if (++filled == form.rows) flush();
      }
    }
    if (filled > 0) flush();
  }

  std::string* out_;
};

class KvCache::Reader {
 public:
  Reader(const uint8_t* data, size_t bytes) : at_(data), left_(bytes) {}

  bool done() const { return left_ == 0; }
  const uint8_t* bytes(size_t n) {
    if (n > left_) bad("more bytes");
    const uint8_t* start = at_;
    at_ += n;
    left_ -= n;
    return start;
  }
  uint8_t u8() { return *bytes(1); }
  uint32_t u32() {
    const uint8_t* b = bytes(4);
    return b[0] | static_cast<uint32_t>(b[1]) << 8 | static_cast<uint32_t>(b[2]) << 16 |
           static_cast<uint32_t>(b[3]) << 24;
  }
  // The bytes are there before anything is allocated for them.
  template <class T>
  void numbers(size_t n, T* out) {
    constexpr size_t size = sizeof(typename T::value_type);
    if (n > left_ / size) bad("more bytes");
    out->resize(n);
    if (n > 0) std::memcpy(out->data(), bytes(n * size), n * size);
  }

  void side(KvSide& side, int coarse, int rows, PageWork& work) {
    const SideFormat& format = side.format();
    const uint32_t sinks = u32(), packed = u32(), all = static_cast<uint32_t>(rows - coarse);
    if (sinks > static_cast<uint32_t>(format.sinks) || sinks > all || packed > all - sinks ||
        (packed > 0 && !format.packs()))
      bad("numbers of float and quantized rows that the type and the rows allow");
    const int counts[] = {coarse, static_cast<int>(sinks), static_cast<int>(packed),
                          static_cast<int>(all - sinks - packed)};
    for (Part p : kParts) {
      const int count = counts[static_cast<size_t>(p)];
      if (!format.groups(p)) {
        part(side, p, count, work);
      } else if (p != Part::coarse || count > 0) {
        groups(side, p, count, work);
      }
    }
  }

 private:
  static void put(uint8_t* to, const uint8_t* from, size_t size, const PageWork& work) {
    const Device& device = work.device();
    if (device.queue) return device.memory()->write(device.queue.get(), to, from, size);
    std::memcpy(to, from, size);
  }
  void groups(KvSide& side, Part part, int rows, PageWork& work) {
    const uint32_t pieces = u32();
    int end = 0;
    for (uint32_t i = 0; i < pieces; i++) {
      const int first = u8(), count = u8(), same = u8();
      if (count < 1 || first + count > kPageRows || count > rows || same > 1) bad("rows of a page");
      if (same && (i == 0 || first < end)) bad("pieces of a page in order");
      rows -= count;
      end = first + count;
      if (same) {
        side.add_piece(first, count);
        continue;
      }
      const size_t size = side.format().page(part).bytes;
      const uint8_t* page = bytes(size);
      put(side.add_page(part, first, count, work), page, size, work);
    }
    if (rows != 0) bad("pieces for all quantized rows");
  }
  void part(KvSide& side, Part part, int rows, PageWork& work) {
    const SideFormat::Page& form = side.format().page(part);
    if (rows == 0) return;
    int first = u8();
    if (first >= form.rows) bad("rows of a page");
    for (; rows > 0; first = 0) {
      const int count = std::min(rows, form.rows - first);
      const uint8_t* page = bytes(form.bytes);
      put(side.add_page(part, first, count, work), page, form.bytes, work);
      rows -= count;
    }
  }

  const uint8_t* at_;
  size_t left_;
};

void KvCache::write_head(Writer& out, const Head& head, const Device& device) {
  const HeadRows& table = head.table;
  out.u32(table.rows());
  out.u8((table.size.empty() ? 0 : kSized) | (table.mass.empty() ? 0 : kMassed) |
         (table.coarse.empty() ? 0 : kCoarsened));
  if (!table.coarse.empty()) out.u32(table.coarse.size());
  out.numbers(table.all());
  out.numbers(table.size);
  out.numbers(table.mass);
  if (!table.mass.empty()) out.bytes(&table.dropped, sizeof table.dropped);
  out.side(head.keys, device);
  out.side(head.values, device);
}

void KvCache::save(std::string* out) const {
  Writer writer(out);
  writer.u32(kMagic);
  for (uint32_t value : described(shape_)) writer.u32(value);
  for (int l = 0; l < shape_.layers; l++) writer.u8(holds(l));
  for (int l = 0; l < shape_.layers; l++) {
    for (size_t i = at(l, 0); holds(l) && i < at(l + 1, 0); i++) write_head(writer, heads_[i], device(l));
  }
  for (int l = 0; l < shape_.layers; l++) {
    for (size_t i = at(l, 0); !stored_.empty() && holds(l) && i < at(l + 1, 0); i++)
      write_head(writer, stored_[i], device(l));
  }
}

void KvCache::read_head(Reader& in, Head& head, int tokens, PageWork& work) {
  HeadRows& table = head.table;
  const uint32_t rows = in.u32();
  const uint8_t flags = in.u8();
  if (flags > (kSized | kMassed | kCoarsened) || rows > static_cast<uint32_t>(tokens))
    bad("known flags, and no more rows than tokens");
  const uint32_t coarse = flags & kCoarsened ? in.u32() : 0;
  if (coarse > rows || ((flags & kCoarsened) && (coarse == 0 || shape_.head_size % 32 != 0)))
    bad("coarse rows among all");
  std::vector<int32_t> source;
  in.numbers(rows, &source);
  if (flags & kSized) in.numbers(rows, &table.size);
  if (flags & kMassed) {
    in.numbers(rows, &table.mass);
    std::memcpy(&table.dropped, in.bytes(sizeof table.dropped), sizeof table.dropped);
    if (!std::isfinite(table.dropped) || table.dropped < 0) bad("attention mass of 0 or more");
  }
  for (size_t i = 0; i < rows; i++) {
    if (source[i] < 0 || source[i] >= tokens || (i > 0 && i != coarse && source[i] <= source[i - 1]))
      bad("ascending sources below the number of tokens");
  }
  const auto others = source.begin() + static_cast<ptrdiff_t>(coarse);
  if (coarse > 0) table.coarse.assign({source.begin(), others});
  table.source.assign({others, source.end()});
  for (int32_t one : table.coarse.all()) {
    if (table.source.row_of(one) >= 0) bad("each row once");
  }
  for (float size : table.size) {
    if (!std::isfinite(size) || size <= 0) bad("sizes of rows above 0");
  }
  for (float mass : table.mass) {
    if (!std::isfinite(mass) || mass < 0) bad("attention mass of 0 or more");
  }
  in.side(head.keys, static_cast<int>(coarse), static_cast<int>(rows), work);
  in.side(head.values, static_cast<int>(coarse), static_cast<int>(rows), work);
}

std::unique_ptr<KvCache> KvCache::load(const uint8_t* data, size_t bytes, const CacheShape& shape,
                                       const kernels::Backend& host, const std::vector<Placement>* stages, int tokens) {
  auto cache = std::make_unique<KvCache>(shape, host, stages);
  Reader in(data, bytes);
  if (in.u32() != kMagic) bad("a saved cache");
  for (uint32_t value : described(shape)) {
    if (in.u32() != value) bad("the layers, heads, head size, types and float rows of this session");
  }
  try {
    for (int l = 0; l < shape.layers; l++) {
      if (in.u8() != cache->holds(l)) bad("rows in the layers that this session holds");
    }
    for (int l = 0; l < shape.layers; l++) {
      Work work(*cache, l);
      for (size_t i = cache->at(l, 0); cache->holds(l) && i < cache->at(l + 1, 0); i++) {
        cache->read_head(in, cache->heads_[i], tokens, *work);
        cache->publish(i);
      }
    }
    if (!in.done()) cache->open_store();
    for (int l = 0; l < shape.layers && !in.done(); l++) {
      Work work(*cache, l);
      for (size_t i = cache->at(l, 0); cache->holds(l) && i < cache->at(l + 1, 0); i++) {
        cache->read_head(in, cache->stored_[i], tokens, *work);
        cache->publish(i);
      }
    }
  } catch (const std::bad_alloc&) {
    throw Error(Code::out_of_memory, "[saved cache] expected memory for its rows, the system gave none");
  }
  if (!in.done()) bad("the end of the data");
  return cache;
}

}  // namespace tokensieve
