#pragma once

#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/convert/reader.h"

namespace mea::convert {

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

// One pass of each over the documents. The first is the plain model itself: kl 0, top1 1.
absl::StatusOr<std::vector<Divergence>> Compare(Reader& plain, std::span<Reader* const> others,
                                                std::span<const Document> documents,
                                                int num_threads, const TokensRead& progress = {});

}  // namespace mea::convert
