// The same model as GGUF and as a safetensors folder (fixtures/weights/make.py): loaded, nothing tells them apart.
#include "check.h"
#include "engine/model.h"
#include "weights_files.h"

using namespace tokensieve;

namespace {

std::unique_ptr<Model> load(const std::string& name) {
  return load_model(*open_weights(files::fixture(name)), choose_backend("reference"), {}, 1, LoadControl());
}

void expect_twins(const std::string& name) {
  const auto a = load(name + ".gguf"), b = load(name);
  CHECK(a->config.architecture == b->config.architecture);
  CHECK_EQ(a->config.layers, b->config.layers);
  CHECK_EQ(a->config.head_size, b->config.head_size);
  CHECK_EQ(a->config.vocabulary, b->config.vocabulary);
  CHECK_EQ(a->config.context, b->config.context);
  CHECK_EQ(a->config.norm_eps, b->config.norm_eps);
  CHECK_EQ(a->config.attention_scale, b->config.attention_scale);
  CHECK_EQ(a->layers[0].window, b->layers[0].window);
  CHECK_EQ(a->rotaries.size(), b->rotaries.size());
  for (size_t i = 0; i < a->rotaries.size(); i++) {
    CHECK_EQ(a->rotaries[i].base, b->rotaries[i].base);
    CHECK_EQ(a->rotaries[i].linear, b->rotaries[i].linear);
    CHECK(a->rotaries[i].factors == b->rotaries[i].factors);
  }
  CHECK_EQ(a->buffers.size(), b->buffers.size());
  for (size_t i = 0; i < a->buffers.size(); i++) {
    const bool same = a->buffers[i].bytes() == b->buffers[i].bytes() &&
                      std::memcmp(a->buffers[i].data(), b->buffers[i].data(), a->buffers[i].bytes()) == 0;
    check::expect(same, __FILE__, __LINE__, name + ": packed matrix or vector " + std::to_string(i) + " differs");
  }
  CHECK((a->head.data == a->embedding.data) == (b->head.data == b->embedding.data));
  CHECK(a->fingerprint != b->fingerprint);
}

}  // namespace

TEST("llama: rotary pairs, llama3 factors, biases, a separate head") { expect_twins("twin-llama"); }

TEST("gemma3: norms of 1 + w, sandwich norms, a tied head") { expect_twins("twin-gemma3"); }
