// The check of a card before layers are placed on it: passes on the emulated device, and finds every kernel that does
// nothing (on emulated devices alone), products that are off by a hundredth, and a queue that reports an error.
#include <cstdlib>

#include "engine/card_check.h"
#include "kernel_test.h"

using namespace kernel_test;

namespace {

std::string fault_of(const char* broken) {
  setenv("TOKENSIEVE_FAULT", broken, 1);
  const std::string fault = tokensieve::check_card(*tokensieve::kernels::cuda_backend(0));
  unsetenv("TOKENSIEVE_FAULT");
  return fault;
}

void expect_fault(const char* broken, const char* words) {
  const std::string fault = fault_of(broken);
  check::expect(fault.find(words) != std::string::npos, __FILE__, __LINE__,
                std::string(broken) + ": expected words with \"" + words + "\", got \"" + fault + "\"");
}

// Once is enough; a real card has no faults to be told.
bool can_be_broken() {
  const char* const schedule = std::getenv("TOKENSIEVE_SCHEDULE");
  return (!schedule || std::strcmp(schedule, "fair") == 0) &&
         std::strcmp(tokensieve::kernels::cuda_device_name(0), "emulated") == 0;
}

}  // namespace

TEST("a card that computes as it should passes") {
  const std::string fault = fault_of("");
  check::expect(fault.empty(), __FILE__, __LINE__, fault);
  CHECK(tokensieve::card_fault(0).empty());
  CHECK(tokensieve::card_fault(9).empty());  // not there: for others to say
}

TEST("a kernel that does nothing is found, and named") {
  if (!can_be_broken()) return;
  expect_fault("copy_numbers", "step 1 of three");
  expect_fault("gather_rows", "norm gave");
  expect_fault("normalize", "norm gave");
  expect_fault("rotate_heads", "rotation gave");
  expect_fault("transform_heads", "rotation gave");
  expect_fault("find_largest", "the largest number");
  expect_fault("embed", "embedding of f32");
  expect_fault("prepare", "a product of f16 weights with 3 tokens");
  expect_fault("matmul_f32", "a product of f32 weights");
  expect_fault("matmul_few", "a product of f16 weights with 3 tokens");
  expect_fault("matmul_tiles", "a product of f16 weights with 12 tokens");
  expect_fault("kType, true", "a gated product with 3 tokens gave ");
  expect_fault("store_pages", "storing f32 keys");
  expect_fault("store_kivi", "storing kivi4 keys");
  expect_fault("attention_decode", "attention of 2 queries over f32 rows");
  expect_fault("attention_prefill", "attention of 6 queries over f32 rows");
  expect_fault("attention_merge", "attention of 1 queries over f16 rows");
  expect_fault("mass", "(mass) gave");
}

TEST("wrong products and errors of the queue are found, in words") {
  if (!can_be_broken()) return;
  expect_fault("mma", "a product of f16 weights with 3 tokens (20 x 160) gave ");
  expect_fault("!normalize", "failed at step 1 of three: ");
  expect_fault("!attention_prefill", "failed at attention of 6 queries over f32 rows: ");
}
