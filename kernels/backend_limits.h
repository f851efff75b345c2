#pragma once

#include <cstdint>
#include <vector>

#include "kernels/paged_kv.h"

namespace mea {

// A product that a model needs: x w^T with w [out_features, in_features].
struct ProductShape {
  int out_features = 0;
  int in_features = 0;
};

// The attention of one kind of layer.
struct AttentionKind {
  int q_heads = 0;
  int kv_heads = 0;  // virtual heads
  int head_dim = 0;
  int window = 0;            // 0 = none
  bool is_composed = false;  // heads are mixed, or keys normed after mixing
  int pseudo_heads = 0;      // P of InterleavedAttention; 0: PagedAttention
  KvDTypes kv_dtype = {};    // of the cache
};

// The mixtures of experts of a model; all have the same sizes.
struct MoeShape {
  int num_experts = 0;  // 0: there are none
  int top_k = 0;        // experts that a row goes to
  int ffn_size = 0;     // of one expert
};

// The most that will be asked of a back end; a device sizes its scratch memory from it.
struct BackendLimits {
  int num_layers = 0;
  int max_rows = 0;        // of a forward pass
  int max_seqs = 0;        // of a forward pass
  int max_context = 0;     // cached tokens of a sequence
  int max_logit_rows = 0;  // drawn from, or scored, at a time
  int page_size = 0;       // tokens per page of the cache, or fewer
  int hidden_size = 0;
  int vocab_size = 0;
  std::vector<ProductShape> products;    // every shape; adjacent Projections count as one
  std::vector<AttentionKind> attention;  // every kind of layer
  MoeShape moe;
};

// Bytes of device memory that a back end takes in addition to its operands.
struct BackendBytes {
  int64_t scratch = 0;  // allocated by Backend::Prepare
  int64_t graphs = 0;   // of Backend::Run, held by the driver: an estimate
};

// What a device has done so far.
struct BackendCounters {
  int64_t graph_replays = 0;     // runs that launched a graph again
  int64_t eager_runs = 0;        // runs that called their ops, to make a graph of them or not
  int64_t graphs = 0;            // ever made
  int64_t product_searches = 0;  // for the fastest algorithm of a shape
  int64_t allocations = 0;       // of device memory and of pinned host memory
  int64_t graph_bytes = 0;       // device memory that the graphs at hand take, as the driver tells
};

}  // namespace mea
