#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/eval/reader.h"

namespace mea {

// How a model's predictions of a text differ from the plain model's: means over the tokens.
struct Divergence {
  double loss = 0;  // nats per token, its own
  double kl = 0;    // KL divergence of its predictions from the plain model's, nats per token
  double top1 = 1;  // share of tokens whose likeliest successor is the plain model's
};

// Of two models' logits for one token.
struct TokenDivergence {
  double plain_loss = 0;
  double loss = 0;
  double kl = 0;
  bool same_top1 = false;
};
TokenDivergence Diverge(std::span<const float> plain, std::span<const float> other, int32_t target);

// One pass of each over the documents. The first reader is the plain model, compared with itself:
// kl 0, top1 1.
absl::StatusOr<std::vector<Divergence>> Compare(std::span<const std::unique_ptr<Reader>> readers,
                                                std::span<const Document> documents,
                                                int num_threads, const TokensRead& progress = {});

}  // namespace mea
