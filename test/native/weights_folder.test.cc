// Broken and hostile safetensors folders, each with the code it must be refused with.
#include <functional>

#include "check.h"
#include "engine/weights.h"
#include "engine/weights_formats.h"
#include "weights_files.h"

using namespace tokensieve;
using files::Exact;

namespace {

const char* const kFormat = "ERR_FILE_FORMAT";
const char* const kCut = "ERR_FILE_TRUNCATED";
const char* const kOther = "ERR_UNSUPPORTED";
const char* const kMissing = "ERR_FILE_NOT_FOUND";

void expect(const std::string& what, const std::string& code, const std::string& words,
            const std::function<void()>& call) {
  const auto failed = files::failure(call);
  check::expect(failed.first == code && failed.second.size() > 20 && failed.second[0] == '[' &&
                    failed.second.find(words) != std::string::npos,
                __FILE__, __LINE__,
                what + ": expected " + code + " with \"" + words + "\", got " + failed.first + " " + failed.second);
}

std::string packed(std::string header, size_t data, bool pad = true) {
  while (pad && header.size() % 8) header += ' ';
  files::Out out;
  out.u64(header.size());
  return out.bytes + header + std::string(data, '\1');
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

// {"t": an entry} with 64 bytes of data
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return packed("{\"t\":" + entry(dtype, shape, offsets) + "}", 64);
}

void refused(const char* what, const char* code, const std::string& words, const std::string& content) {
  const Exact exact(content);
  expect(what, code, words, [&] { formats::parse_safetensors(exact.bytes(), "x.safetensors"); });
}

std::string llama(const std::string& more) {
  return "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":1,\"vocab_size\":"
         "6,"
         "\"num_attention_heads\":2" +
         (more.empty() ? "" : "," + more) + "}";
}

void config_refused(const char* code, const std::string& words, const std::string& json) {
  expect(json, code, words, [&] { formats::translate_config(json, "config.json"); });
}

}  // namespace

TEST("a hand-made safetensors file is accepted, so that the others fail for their one fault") {
  const Exact exact(packed("{\"__metadata__\":{\"format\":\"pt\",\"x\":[1]},\"t\":" + entry("F16", "[2,3]", "[0,12]") +
                               ",\"u\":" + entry("F32", "[1]", "[12,16]") + "}",
                           16));
  const formats::Parsed parsed = formats::parse_safetensors(exact.bytes(), "x");
  CHECK_EQ(parsed.tensors.size(), 2u);
  CHECK(parsed.tensors.at("t").type == DType::f16 && parsed.tensors.at("t").shape == (std::vector<int64_t>{2, 3}));
}

TEST("safetensors: headers") {
  refused("empty", kCut, "ends within", "");
  refused("seven bytes", kCut, "ends within", "1234567");
  refused("a text", kFormat, "at most 100000000", "hello\nhello\nhello\n");
  refused("a header of 2^63", kFormat, "at most", std::string("\0\0\0\0\0\0\0\x80", 8));
  refused("a header beyond the end", kCut, "too few", std::string("\x10\0\0\0\0\0\0\0{}", 10));
  refused("no JSON", kFormat, "an object", packed("hello", 0));
  refused("a list", kFormat, "an object", packed("[]", 0));
  refused("a header of nothing", kFormat, "an object", packed("", 0));
  refused("something behind", kFormat, "end of the file", packed("{}{}", 0));
  refused("no object", kFormat, "an object", packed("{\"t\":1}", 0));
  refused("nested without end", kFormat, "nested", packed("{\"__metadata__\":" + std::string(100000, '['), 0));
  refused("a long name", kFormat, "255", packed("{\"" + std::string(256, 'n') + "\":1}", 0));
  refused("a very long string", kFormat, "mebibyte",
          packed("{\"__metadata__\":\"" + std::string(2 << 20, 'n') + "\"}", 0));
}

TEST("safetensors: tensors") {
  refused("dtype", kOther, "`I64`", one("I64", "[1]", "[0,8]"));
  refused("dtype", kOther, "`F8_E4M3`", one("F8_E4M3", "[1]", "[0,1]"));
  refused("no dimension", kFormat, "1 to 4 dimensions", one("F32", "[]", "[0,4]"));
  refused("five dimensions", kFormat, "1 to 4", one("F32", "[1,1,1,1,1]", "[0,4]"));
  refused("a dimension of 0", kFormat, "impossible shape", one("F32", "[2,0]", "[0,0]"));
  refused("a negative dimension", kFormat, "whole number", one("F32", "[-1]", "[0,4]"));
  refused("a dimension of 1.5", kFormat, "whole number", one("F32", "[1.5]", "[0,4]"));
  refused("2^64 elements", kFormat, "impossible shape", one("F32", "[4294967296,4294967296]", "[0,0]"));
  refused("2^56 elements", kCut, "needs", one("F32", "[72057594037927936]", "[0,0]"));
  refused("2^57 elements", kFormat, "sensible", one("F32", "[144115188075855872]", "[0,0]"));
  refused("beyond the end", kCut, "needs 68", one("F32", "[17]", "[0,68]"));
  refused("begins beyond the end", kCut, "needs 4", one("F32", "[1]", "[18446744073709551612,18446744073709551615]"));
  refused("ends before it begins", kFormat, "ends before", one("F32", "[1]", "[8,4]"));
  refused("fewer bytes than the shape", kFormat, "should have 8 bytes", one("F32", "[2]", "[0,4]"));
  refused("more bytes than the shape", kFormat, "should have 8 bytes", one("F32", "[2]", "[0,12]"));
  refused("one offset", kFormat, "two offsets", one("F32", "[1]", "[0]"));
  refused("three offsets", kFormat, "two offsets", one("F32", "[1]", "[0,4,8]"));
  refused("unaligned", kOther, "multiple of 4", one("F32", "[1]", "[2,6]"));
  std::string odd = "{\"t\":" + entry("F16", "[10]", "[0,20]") + "}";
  if (odd.size() % 2 == 0) odd += ' ';
  refused("unaligned header", kOther, "multiple of 2", packed(odd, 20, false));
  const std::string t = "\"t\":" + entry("F32", "[2]", "[0,8]");
  refused("a name twice", kFormat, "comes twice", packed("{" + t + "," + t + "}", 64));
  refused("shared bytes", kFormat, "same bytes", packed("{" + t + ",\"u\":" + entry("F32", "[2]", "[4,12]") + "}", 64));
  refused("no dtype", kFormat, "dtype, shape", packed("{\"t\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 64));
  refused("no offsets", kFormat, "dtype, shape", packed("{\"t\":{\"shape\":[1],\"dtype\":\"F32\"}}", 64));
  refused("two shapes", kFormat, "dtype, shape", packed("{\"t\":{\"shape\":[1],\"shape\":[1]}}", 64));
  refused("another key", kFormat, "`strides`", packed("{\"t\":{\"strides\":[1]}}", 64));
}

TEST("config.json: what is missing, wrong or not supported") {
  formats::translate_config(llama(""), "config.json");
  config_refused(kFormat, "an object", "[]");
  config_refused(kFormat, "comma", "{\"model_type\":\"llama\"");
  config_refused(kOther, "`mamba`", "{\"model_type\":\"mamba\"}");
  config_refused(kOther, "llama", "{}");
  config_refused(kFormat, "`model_type`", "{\"model_type\":3}");
  config_refused(kFormat, "`num_hidden_layers`", "{\"model_type\":\"llama\"}");
  config_refused(kFormat, "text_config", "{\"model_type\":\"gemma3\"}");
  config_refused(kFormat, "4096", "{\"model_type\":\"llama\",\"num_hidden_layers\":1e9}");
  config_refused(kFormat, "whole number", "{\"model_type\":\"llama\",\"num_hidden_layers\":1.5}");
  config_refused(kFormat, "each key once", "{\"model_type\":\"llama\",\"model_type\":\"llama\"}");
  for (const char* bad : {"0", "-1", "1e300", "\"2\"", "0.5", "[1]", "true"}) {
    config_refused(kFormat, "`head_dim`", llama(std::string("\"head_dim\":") + bad));
    if (std::strcmp(bad, "0.5") != 0 && std::strcmp(bad, "1e300") != 0) {
      config_refused(kFormat, "`rope_theta`", llama(std::string("\"rope_theta\":") + bad));
    }
  }
  config_refused(kOther, "`relu`", llama("\"hidden_act\":\"relu\""));
  config_refused(kOther, "quantized", llama("\"quantization_config\":{}"));
  config_refused(kOther, "a part of each head", llama("\"partial_rotary_factor\":0.5"));
  config_refused(kOther, "`yarn`", llama("\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2}"));
  config_refused(kFormat, "`factor`", llama("\"rope_scaling\":{\"rope_type\":\"linear\"}"));
  config_refused(kFormat, "`factor`", llama("\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":0}"));
  config_refused(kFormat, "`low_freq_factor`", llama("\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":2}"));
  config_refused(kFormat, "65536 elements",
                 "{\"model_type\":\"llama\",\"hidden_size\":2147483648,\"intermediate_size\":1,\"num_hidden_layers\":1,"
                 "\"vocab_size\":6,\"num_attention_heads\":1,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
                 "\"low_freq_factor\":1,\"high_freq_factor\":4}}");
  config_refused(kFormat, "`rope_scaling`", llama("\"rope_scaling\":\"linear\""));
  const std::string gemma = "{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":3,";
  config_refused(kFormat, "of 3 layers", gemma + "\"layer_types\":[\"full_attention\"]}");
  config_refused(kOther, "`cross`", gemma + "\"layer_types\":[\"cross\"]}");
  config_refused(kOther, "softcapping", gemma + "\"final_logit_softcapping\":30.0}");
  config_refused(kOther, "later tokens", gemma + "\"use_bidirectional_attention\":true}");
  config_refused(kOther, "`llama3`", gemma + "\"rope_scaling\":{\"rope_type\":\"llama3\"}}");
}

TEST("config.json: both ways to write it, and what it leaves out") {
  const auto of = [](const std::string& json) { return formats::translate_config(json, "config.json"); };
  const auto real = [](const formats::Config& c, const char* key) { return std::get<double>(c.metadata.at(key)); };
  const auto whole = [](const formats::Config& c, const char* key) { return std::get<uint64_t>(c.metadata.at(key)); };
  const formats::Config plain = of(llama(""));
  CHECK_EQ(whole(plain, "llama.attention.head_count_kv"), 2u);
  CHECK_EQ(whole(plain, "llama.attention.key_length"), 4u);
  CHECK_EQ(whole(plain, "llama.context_length"), 2048u);
  CHECK_EQ(real(plain, "llama.rope.freq_base"), 10000.0);
  CHECK(!plain.tied && !plain.untied && plain.rope_factors.empty() && !plain.metadata.count("llama.rope.scaling.type"));
  const formats::Config dynamic =
      of(llama("\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4.0},\"max_position_embeddings\":4096"));
  CHECK(std::get<std::string>(dynamic.metadata.at("llama.rope.scaling.type")) == "dynamic");
  CHECK_EQ(whole(dynamic, "llama.rope.scaling.original_context_length"), 4096u);
  const formats::Config gemma =
      of("{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":18,\"rope_parameters\":{\"full_attention\":{"
         "\"rope_theta\":2e6,\"rope_type\":\"default\"},\"sliding_attention\":{\"rope_theta\":3e4,"
         "\"rope_type\":\"default\"}},\"_sliding_window_pattern\":6,\"hidden_activation\":\"gelu_pytorch_tanh\"}");
  CHECK_EQ(real(gemma, "gemma3.rope.freq_base"), 2e6);
  CHECK_EQ(real(gemma, "gemma3.rope.freq_base_swa"), 3e4);
  CHECK_EQ(real(gemma, "gemma3.attention.scale"), 0.0625);
  CHECK_EQ(whole(gemma, "gemma3.attention.sliding_window_pattern"), 6u);
  CHECK(gemma.tied);
  const formats::Config listed =
      of("{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":5,\"layer_types\":[\"sliding_attention\","
         "\"full_attention\",\"sliding_attention\",\"full_attention\",\"sliding_attention\"]}");
  CHECK_EQ(whole(listed, "gemma3.attention.sliding_window_pattern"), 2u);
}

TEST("names") {
  const auto is = [](const char* architecture, const char* from, const char* to) {
    check::expect(formats::translate_name(architecture, from) == to, __FILE__, __LINE__, from);
  };
  is("llama", "model.layers.17.mlp.down_proj.bias", "blk.17.ffn_down.bias");
  is("llama", "model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight");
  is("gemma3", "model.layers.0.post_attention_layernorm.weight", "blk.0.post_attention_norm.weight");
  is("gemma3", "model.language_model.layers.3.mlp.up_proj.weight", "blk.3.ffn_up.weight");
  is("gemma3", "language_model.lm_head.weight", "output.weight");
  is("llama", "language_model.lm_head.weight", "output.weight");
  is("llama", "language_model.model.layers.3.mlp.up_proj.weight", "blk.3.ffn_up.weight");
  is("llama", "model.language_model.norm.weight", "output_norm.weight");
  is("llama", "vision_tower.vision_model.embeddings.class_embedding", "v.class_embd");
  is("llama", "vision_tower.vision_model.pre_layrnorm.bias", "v.pre_ln.bias");
  is("llama", "vision_tower.vision_model.encoder.layers.11.mlp.fc1.weight", "v.blk.11.ffn_up.weight");
  is("llama", "model.vision_tower.encoder.layers.0.self_attn.out_proj.bias", "v.blk.0.attn_out.bias");
  is("llama", "multi_modal_projector.linear_2.weight", "mm.2.weight");
  is("llama", "model.image_newline", "model.image_newline");
  for (const char* same :
       {"", "model.layers.", "model.layers.1", "model.layers.1.", "model.layers.x.mlp.up_proj.weight",
        "model.layers.12345.mlp.up_proj.weight", "model.layers.1.mlp.up_proj", "model.layers..weight",
        "model.layers.1.weight", "model.layers.1.self_attn.rotary_emb.inv_freq",
        "model.layers.1.pre_feedforward_layernorm.weight", "vision_tower.vision_model.post_layernorm.weight",
        "vision_tower.vision_model.encoder.layers.0.mlp.fc3.weight", "vision_tower.encoder.layers.0.mlp.fc1"}) {
    is("llama", same, same);
  }
}

TEST("folders: what must be there and agree") {
  const files::Scratch scratch;
  const std::string path = scratch / "m";
  const auto restore = [&](const char* name) {
    files::fs::remove_all(path);
    files::fs::copy(files::fixture(name), path);
  };
  const auto refused_folder = [&](const char* what, const char* code, const std::string& words) {
    expect(what, code, words, [&] { open_weights(path); });
  };
  const std::string index = path + "/model.safetensors.index.json", shard = "model-00002-of-00003.safetensors";
  restore("llama");
  files::fs::remove(path + "/config.json");
  refused_folder("no config.json", kMissing, "config.json");
  restore("llama");
  files::fs::remove(path + "/model.safetensors");
  refused_folder("no tensors", kMissing, "model.safetensors");
  files::fs::create_directory(path + "/model.safetensors");
  refused_folder("a folder for a file", kFormat, "expected a file");
  restore("llama");
  files::write(path + "/config.json", std::string(300000, ' ') + llama(""));
  refused_folder("a huge config.json", kFormat, "262144");
  files::write(path + "/config.json", llama("\"tie_word_embeddings\":false"));
  refused_folder("a head that is not there", kFormat, "lm_head.weight");
  restore("llama-sharded");
  files::write(path + "/config.json", llama("\"tie_word_embeddings\":true"));
  CHECK(!open_weights(path)->tensors().count("output.weight"));
  restore("llama-sharded");
  files::fs::remove(path + "/" + shard);
  refused_folder("a shard is missing", kMissing, shard);
  for (const char* name : {"../x", "/etc/passwd", "a/b", "", ".", "..", "c:x", "a\\\\b", "a\\u0000b"}) {
    files::write(index, std::string("{\"weight_map\":{\"t\":\"") + name + "\"}}");
    refused_folder(name, kFormat, "same folder");
  }
  files::write(index, "{\"weight_map\":{}}");
  refused_folder("an empty index", kFormat, "weight_map");
  files::write(index, "{\"weight_map\":{\"lm_head.weight\":\"config.json\"}}");
  refused_folder("a shard that is none", kFormat, "config.json");
  restore("llama-sharded");
  std::string text = files::read(index);
  text.replace(text.find(shard), shard.size(), "model-00001-of-00003.safetensors");
  files::write(index, text);
  refused_folder("a tensor in another shard than said", kFormat, "is not in");
  files::write(index, "{\"weight_map\":{\"ghost\":\"" + shard + "\"}}");
  refused_folder("a tensor that is nowhere", kFormat, "`ghost`");
  files::fs::copy(path + "/model-00001-of-00003.safetensors", path + "/copy.safetensors");
  files::write(index, "{\"weight_map\":{\"a\":\"copy.safetensors\",\"b\":\"model-00001-of-00003.safetensors\"}}");
  refused_folder("a tensor in two shards", kFormat, "comes twice");
}
