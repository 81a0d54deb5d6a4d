// Headers of towers, damaged at random: each file gives an Error, or a tower that runs. TOKENSIEVE_FUZZ=N makes N files,
// TOKENSIEVE_FUZZ_SEED another sequence of them.
#include <vector>

#include "check.h"
#include "core/error.h"
#include "engine/vision/tower.h"
#include "weights_files.h"

using namespace tokensieve;

namespace {

int from_environment(const char* name, int fallback) {
  const char* text = std::getenv(name);
  return text && std::atoi(text) > 0 ? std::atoi(text) : fallback;
}

// Whole numbers of a header, one of them replaced; or a byte of it.
void edit(std::string* s, size_t header, check::Random* random) {
  static constexpr uint32_t kEdges[] = {0, 1, 2, 3, 5, 7, 12, 16, 17, 33, 64, 255, 256, 4096, 65536, 0x7fffffff, ~0u};
  const size_t at = static_cast<size_t>(random->next() % (header - 4));
  if (random->below(2)) {
    (*s)[at] = static_cast<char>(random->next());
  } else {
    std::memcpy(&(*s)[at], &kEdges[random->below(17)], 4);
  }
}

// A value of the metadata by its key, a u32.
void edit_value(std::string* s, check::Random* random) {
  static const char* const kKeys[] = {"image_size",          "patch_size",           "embedding_length", "block_count",
                                      "feed_forward_length", "attention.head_count", "scale_factor",     "use_gelu",
                                      "layer_norm_epsilon"};
  const std::string key = kKeys[random->below(9)];
  const size_t at = s->find(key);
  if (at == std::string::npos) return;
  const uint32_t value = random->below(3) ? static_cast<uint32_t>(random->below(80))
                                          : static_cast<uint32_t>(random->next() >> random->below(33));
  std::memcpy(&(*s)[at + key.size() + 4], &value, 4);
}

void run(const std::shared_ptr<const VisionModel>& model) {
  const VisionConfig& c = model->config;
  const size_t image = static_cast<size_t>(c.image);
  CHECK(image < 200);
  if (image >= 200) return;
  const std::vector<float> pixels(2 * 3 * image * image, 0.5f);
  Glance glance(model, pixels.data(), 2);
  Tower tower(model);
  tower.advance(glance, 0, {});
  tower.advance(glance, 2 * c.layers + 1, {{c.layers - 1, VisionLook::What::pairs}});
  CHECK_EQ(glance.patch_rows().size(), static_cast<size_t>(glance.rows()) * static_cast<size_t>(c.output));
}

}  // namespace

TEST("damaged towers") {
  const files::Scratch scratch;
  const std::string path = scratch / "x.gguf";
  const int files = std::max(1, from_environment("TOKENSIEVE_FUZZ", 4000) / 4);
  check::Random random(static_cast<uint64_t>(from_environment("TOKENSIEVE_FUZZ_SEED", 1)));
  for (const char* name : {"clip", "siglip", "embedded", "linear"}) {
    const std::string original = files::read(files::fixture(std::string("../vision/") + name + ".gguf"));
    const size_t header = original.find("v.patch_embd.weight") + 2000;
    int accepted = 0;
    for (int i = 0; i < files; i++) {
      std::string damaged = original;
      for (int n = random.below(3); n > 0; n--) edit(&damaged, header, &random);
      for (int n = random.below(2); n > 0; n--) edit_value(&damaged, &random);
      files::write(path, damaged);
      try {
        const std::shared_ptr<const VisionModel> model =
            load_vision(*open_weights(path), kernels::reference_backend(), 1, LoadControl());
        accepted++;
        if (accepted < 50) run(model);
      } catch (const Error& error) {
        CHECK(std::strlen(error.what()) > 20 && error.what()[0] == '[');
      }
    }
    std::printf("%s: %d files, %d accepted\n", name, files, accepted);
    CHECK(accepted > 0 && accepted < files);
  }
}
