// A session as bytes: positions, fates of tokens, the newest hidden row and the cache. The facade adds version, options and a hash.
#include <cstring>

#include "core/error.h"
#include "engine/session.h"

namespace tokensieve {

namespace {

void put(std::string* out, const void* data, size_t bytes) { out->append(static_cast<const char*>(data), bytes); }
void put_u32(std::string* out, size_t value) {
  const uint32_t v = static_cast<uint32_t>(value);
  put(out, &v, 4);
}

struct Reader {
  const uint8_t* at;
  size_t left;

  void take(void* out, size_t bytes) {
    if (bytes > left)
      throw Error(Code::file_format, "[session] expected " + std::to_string(bytes) +
                                         " more bytes, the saved session ends after " + std::to_string(left));
    if (bytes > 0) std::memcpy(out, at, bytes);
    at += bytes, left -= bytes;
  }
  uint32_t u32(uint32_t most) {
    uint32_t v;
    take(&v, 4);
    if (v > most)
      throw Error(Code::file_format,
                  "[session] expected a count of at most " + std::to_string(most) + ", got " + std::to_string(v));
    return v;
  }
};

}  // namespace

std::string Session::save() const {
  std::string out;
  put_u32(&out, static_cast<size_t>(tokens_));
  for (int32_t p : next_position_) put_u32(&out, static_cast<size_t>(p));
  for (const Fate& f : fates_) put_u32(&out, (static_cast<size_t>(f.layers) << 1) | (f.keeps_position ? 1 : 0));
  put_u32(&out, last_hidden_.size());
  put(&out, last_hidden_.data(), last_hidden_.size() * sizeof(float));
  cache_->save(&out);
  return out;
}

std::unique_ptr<Session> Session::restore(std::shared_ptr<const Model> model, const SessionOptions& options,
                                          const uint8_t* data, size_t bytes) {
  auto session = std::make_unique<Session>(std::move(model), options);
  const Config& c = session->model_->config;
  Reader r{data, bytes};
  const uint32_t tokens = r.u32(kMostTokens);
  for (int32_t& p : session->next_position_) p = static_cast<int32_t>(r.u32(tokens));
  for (uint32_t i = 0; i < tokens; i++) {
    const uint32_t f = r.u32(static_cast<uint32_t>(c.layers) * 2 + 1);
    session->fates_.push_back({static_cast<uint16_t>(f >> 1), (f & 1) != 0});
  }
  const uint32_t hidden = r.u32(static_cast<uint32_t>(c.hidden));
  if (hidden != 0 && hidden != static_cast<uint32_t>(c.hidden))
    throw Error(Code::file_format, "[session] expected a hidden row of " + std::to_string(c.hidden) + " numbers, got " +
                                       std::to_string(hidden));
  session->last_hidden_.resize(hidden);
  r.take(session->last_hidden_.data(), hidden * sizeof(float));
  session->cache_ = KvCache::load(r.at, r.left, session->cache_shape(), *session->model_->backend,
                                  &session->model_->stages, static_cast<int>(tokens));
  session->tokens_ = static_cast<int>(tokens);
  if (session->live_rows() > options.context_length) {
    throw Error(Code::context_full, "[session] expected a context of at least " + std::to_string(session->live_rows()) +
                                        " rows, as many as were saved, got " + std::to_string(options.context_length));
  }
  return session;
}

}  // namespace tokensieve
