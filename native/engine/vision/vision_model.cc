// Keys and tensors of a tower, by the names that llama.cpp's converters write. Ours: mm.input_norm, clip.use_gelu_erf.
#include "engine/vision/vision_model.h"

#include <cmath>
#include <string>
#include <utility>

#include "core/error.h"
#include "engine/loader.h"
#include "kernels/traced.h"

namespace tokensieve {

bool of_vision(const std::string& name) {
  return name.compare(0, 2, "v.") == 0 || name.compare(0, 3, "mm.") == 0 || name == "model.image_newline";
}

namespace {

constexpr int kMostSide = 256, kMostHead = 256, kMostRow = 1 << 17;

class VisionLoader : public Packer {
 public:
  VisionLoader(const Weights& weights, VisionModel& model, const LoadControl& control)
      : Packer(weights, model, control, of_vision), model_(model), c_(model.config) {}
  void run();

 private:
  Error wrong(Code code, const std::string& what) const { return Error(code, "[" + weights().name() + "] " + what); }
  int size(const char* key, int most) const {
    return static_cast<int>(need_int(weights(), std::string("clip.vision.") + key, 1, most));
  }
  const Tensor* find(const std::string& name) const;
  void sizes();
  void choose_depth();
  void colours(const char* key, float* three, bool positive) const;
  void ends();
  void block(int layer);
  void projector();
  VisionNorm norm(const std::string& name, int size, bool optional);

  VisionModel& model_;
  VisionConfig& c_;
  bool post_norm_ = true;  // the blocks run to the end
};

const Tensor* VisionLoader::find(const std::string& name) const {
  const auto at = weights().tensors().find(name);
  return at == weights().tensors().end() ? nullptr : &at->second;
}

void VisionLoader::sizes() {
  c_.image = size("image_size", 1 << 14), c_.patch = size("patch_size", 1 << 10);
  c_.side = c_.image / c_.patch;
  c_.layers = size("block_count", 1024);
  c_.width = size("embedding_length", kMostRow), c_.heads = size("attention.head_count", 1024);
  c_.feed_forward = size("feed_forward_length", 1 << 20);
  if (c_.side < 1 || c_.side > kMostSide) {
    throw wrong(Code::unsupported, "expected 1 to " + std::to_string(kMostSide) + " patches of a side, got " +
                                       std::to_string(c_.image) + " pixels in patches of " + std::to_string(c_.patch));
  }
  if (c_.width % c_.heads != 0 || c_.width / c_.heads > kMostHead) {
    throw wrong(Code::unsupported, "expected heads of equal size, " + std::to_string(kMostHead) + " at most, got " +
                                       std::to_string(c_.heads) + " in a width of " + std::to_string(c_.width));
  }
  c_.head_size = c_.width / c_.heads;
  const double eps = get_double(weights(), "clip.vision.attention.layer_norm_epsilon", 1e-5);
  if (!(eps >= 0 && eps < 1)) throw wrong(Code::file_format, "expected a layer_norm_epsilon from 0 to 1");
  c_.eps = static_cast<float>(eps);
  const bool gelu = get_bool(weights(), "clip.use_gelu", false), silu = get_bool(weights(), "clip.use_silu", false);
  const bool exact = get_bool(weights(), "clip.use_gelu_erf", false);
  c_.activation = exact  ? kernels::Activation::gelu
                  : gelu ? kernels::Activation::gelu_tanh
                  : silu ? kernels::Activation::silu
                         : kernels::Activation::quick_gelu;
  colours("clip.vision.image_mean", c_.mean, false);
  colours("clip.vision.image_std", c_.deviation, true);
  choose_depth();
}

// The rows that are projected may be those of an earlier block; its number counts from the embedding.
void VisionLoader::choose_depth() {
  const auto at = weights().metadata().find("clip.vision.feature_layer");
  if (at == weights().metadata().end()) return;
  int64_t layer = 0;
  if (const auto* list = std::get_if<std::vector<int64_t>>(&at->second)) {
    if (list->size() != 1) {
      throw wrong(Code::unsupported,
                  "expected the features of one layer, the file asks for those of " + std::to_string(list->size()));
    }
    layer = (*list)[0];
  } else {
    layer = need_int(weights(), "clip.vision.feature_layer", -c_.layers, c_.layers);
  }
  if (layer < 0) layer += c_.layers + 1;
  if (layer < 1 || layer > c_.layers) {
    throw wrong(Code::file_format,
                "expected a feature_layer of 1 to " + std::to_string(c_.layers) + ", got " + std::to_string(layer));
  }
  post_norm_ = layer == c_.layers;
  c_.layers = static_cast<int>(layer);
}

void VisionLoader::colours(const char* key, float* three, bool positive) const {
  const auto at = weights().metadata().find(key);
  if (at == weights().metadata().end()) return;
  const auto* list = std::get_if<std::vector<double>>(&at->second);
  bool good = list && list->size() == 3;
  for (size_t i = 0; good && i < 3; i++) {
    good = std::isfinite((*list)[i]) && (!positive || (*list)[i] > 1e-6);
    three[i] = static_cast<float>((*list)[i]);
  }
  if (!good) throw wrong(Code::file_format, std::string("expected three numbers of red, green and blue in ") + key);
}

VisionNorm VisionLoader::norm(const std::string& name, int size, bool optional) {
  if (optional && !find(name + ".weight")) return {};
  return {vector(name + ".weight", size), vector(name + ".bias", size)};
}

void VisionLoader::ends() {
  model_.patches = convolution("v.patch_embd", {c_.width, 3, c_.patch, c_.patch});
  model_.class_row = vector("v.class_embd", c_.width, true);
  c_.class_token = model_.class_row != nullptr;
  model_.positions = numbers(
      need_tensor(weights(), "v.position_embd.weight", {c_.side * c_.side + (c_.class_token ? 1 : 0), c_.width}));
  model_.pre_norm = norm("v.pre_ln", c_.width, true);
  if (post_norm_) model_.post_norm = norm("v.post_ln", c_.width, true);
}

void VisionLoader::block(int layer) {
  const std::string name = "v.blk." + std::to_string(layer) + ".";
  VisionBlock b;
  b.attention_norm = norm(name + "ln1", c_.width, false);
  b.qkv = linear({{name + "attn_q", c_.width, nullptr},
                  {name + "attn_k", c_.width, nullptr},
                  {name + "attn_v", c_.width, nullptr}},
                 c_.width);
  b.output = linear({{name + "attn_out", c_.width, nullptr}}, c_.width);
  b.feed_forward_norm = norm(name + "ln2", c_.width, false);
  // Old converters call the layer that widens ffn_down.
  const Tensor* up = find(name + "ffn_up.weight");
  const std::vector<int64_t> narrows = {c_.width, c_.feed_forward};
  const bool swapped = up && c_.width != c_.feed_forward && up->shape == narrows;
  b.up = linear({{name + (swapped ? "ffn_down" : "ffn_up"), c_.feed_forward, nullptr}}, c_.width);
  b.down = linear({{name + (swapped ? "ffn_up" : "ffn_down"), c_.width, nullptr}}, c_.feed_forward);
  model_.blocks.push_back(std::move(b));
}

void VisionLoader::projector() {
  const Weights& w = weights();
  const std::string type = get_string(w, "clip.projector_type", get_string(w, "clip.vision.projector_type", "mlp"));
  if (type != "mlp" && type != "idefics3") {
    throw wrong(Code::unsupported,
                "expected a projector of type mlp or idefics3, the file is \"" + type.substr(0, 60) + "\"");
  }
  const bool shuffle = type == "idefics3", two = !shuffle && find("mm.2.weight");
  if (shuffle) c_.pool = size("projector.scale_factor", 64);
  if (c_.side % c_.pool != 0) {
    throw wrong(Code::file_format, "expected patches of a side that " + std::to_string(c_.pool) +
                                       " divides, as many are joined, got " + std::to_string(c_.side));
  }
  c_.projector = shuffle ? VisionConfig::Projector::pixel_shuffle
                 : two   ? VisionConfig::Projector::mlp
                         : VisionConfig::Projector::linear;
  const auto rows_of = [&](const std::string& name) {
    const Tensor* t = find(name + ".weight");
    if (!t) throw wrong(Code::file_format, "expected a tensor " + name + ".weight, there is none");
    if (t->shape.size() == 2 && t->rows() <= kMostRow) return static_cast<int>(t->rows());
    throw wrong(Code::file_format,
                "expected " + name + ".weight to be a matrix of at most " + std::to_string(kMostRow) + " rows");
  };
  const std::string first = shuffle ? "mm.model.fc" : "mm.0";
  const int inner = rows_of(first);
  model_.projector_norm = norm("mm.input_norm", c_.width, true);
  model_.first = linear({{first, inner, nullptr}}, c_.width * c_.pool * c_.pool);
  if (two) model_.second = linear({{"mm.2", rows_of("mm.2"), nullptr}}, inner);
  c_.output = two ? model_.second.rows : inner;
  const Tensor* newline = find_tensor(w, "model.image_newline", {c_.output});
  if (!newline) return;
  const float* row = numbers(*newline);
  model_.newline.assign(row, row + c_.output);
}

void VisionLoader::run() {
  const std::string architecture = get_string(weights(), "general.architecture", "");
  if (architecture != "clip" && !weights().metadata().count("clip.vision.block_count")) {
    throw wrong(
        Code::unsupported,
        "expected a vision tower: a GGUF of architecture clip or a folder with a vision_config, the file is \"" +
            architecture.substr(0, 60) + "\"");
  }
  if (!get_bool(weights(), "clip.has_vision_encoder", true))
    throw wrong(Code::unsupported, "expected a vision tower, the file says that it has none");
  sizes();
  ends();
  for (int l = 0; l < c_.layers; l++) block(l);
  projector();
}

}  // namespace

std::unique_ptr<VisionModel> load_vision(const Weights& weights, const kernels::Backend& backend, int threads,
                                         const LoadControl& control) {
  auto model = std::make_unique<VisionModel>();
  model->backend = &kernels::traced_backend(backend);
  model->threads = threads;
  model->fingerprint = weights.fingerprint();
  VisionLoader(weights, *model, control).run();
  if (control.progress) control.progress(weights.file_bytes(), weights.file_bytes());
  return model;
}

}  // namespace tokensieve
