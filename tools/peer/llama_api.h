// What llama_steps.cc needs of llama.cpp where its fork ik_llama.cpp (-DPEER_IK_LLAMA) has an older
// or another interface. The fork has one cache for all sequences: each of them looks at the cells
// of all. llama.cpp is asked for one cache a sequence, which is faster.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "llama.h"
#ifndef PEER_IK_LLAMA
#include "ggml-cpu.h"
#endif

namespace api {

constexpr int kCellMultiple = 256;  // both see their caches in pieces of so many tokens
constexpr int kMicroBatch = 512;    // rows that they compute at once by default

#ifdef PEER_IK_LLAMA

// OpenMP has the threads.
class Threads {
 public:
  explicit Threads(int) {}
  void Attach(llama_context*) const {}
};

inline bool Repack(llama_model_params& params, bool wanted) {
  params.repack_tensors = wanted;
  return true;
}

inline void FreeModel(llama_model* model) { llama_free_model(model); }

inline void Describe(llama_context_params& params, int num_sequences, int capacity, bool flash) {
  // Rows of a step stand side by side, behind the sequences.
  params.n_ctx = num_sequences * capacity + kMicroBatch;
  params.flash_attn = flash;
}

inline void Forget(llama_context* context, int sequence, int position) {
  llama_kv_cache_seq_rm(context, sequence, position, -1);
}

inline std::vector<uint8_t> Save(llama_context* context, int sequence) {
  std::vector<uint8_t> state(llama_state_seq_get_size(context, sequence, 0));
  state.resize(llama_state_seq_get_data(context, state.data(), state.size(), sequence, 0));
  return state;
}

// `state` is a sequence saved by a context of one, this context has `num_sequences`.
inline bool RestoreAll(llama_context* context, const std::vector<uint8_t>& state,
                       int num_sequences) {
  for (int s = 0; s < num_sequences; ++s) {
    if (llama_state_seq_set_data(context, state.data(), state.size(), s, 0) == 0) return false;
  }
  return true;
}

#else

class Threads {
 public:
  explicit Threads(int count) {
    ggml_threadpool_params params = ggml_threadpool_params_default(count);
    pool_ = ggml_threadpool_new(&params);
  }
  ~Threads() { ggml_threadpool_free(pool_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  void Attach(llama_context* context) const { llama_attach_threadpool(context, pool_, nullptr); }

 private:
  ggml_threadpool* pool_;
};

// It repacks by itself what it can.
inline bool Repack(llama_model_params&, bool wanted) { return !wanted; }

inline void FreeModel(llama_model* model) { llama_model_free(model); }

inline void Describe(llama_context_params& params, int num_sequences, int capacity, bool flash) {
  params.n_ctx = num_sequences * capacity;
  params.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.kv_unified = false;
}

inline void Forget(llama_context* context, int sequence, int position) {
  llama_memory_seq_rm(llama_get_memory(context), sequence, position, -1);
}

inline std::vector<uint8_t> Save(llama_context* context, int sequence) {
  std::vector<uint8_t> state(llama_state_seq_get_size(context, sequence));
  state.resize(llama_state_seq_get_data(context, state.data(), state.size(), sequence));
  return state;
}

inline bool RestoreAll(llama_context* context, std::vector<uint8_t> state, int num_sequences) {
  // Behind a magic number and a sequence id stands for how many sequences the context has caches,
  // then the cells of each: of one here, none of the others.
  constexpr size_t kCountAt = 8;
  const uint32_t count = num_sequences;
  if (state.size() < kCountAt + sizeof(count)) return false;
  std::memcpy(state.data() + kCountAt, &count, sizeof(count));
  state.resize(state.size() + (count - 1) * sizeof(uint32_t), 0);
  for (int s = 0; s < num_sequences; ++s) {
    if (llama_state_seq_set_data(context, state.data(), state.size(), s) == 0) return false;
  }
  return true;
}

#endif

}  // namespace api
