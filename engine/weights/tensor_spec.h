#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace mea {

// What a tensor is for: its dtype in memory, and what its numbers look like where they are made up.
enum class TensorRole : uint8_t {
  kMatrix,       // in the checkpoint's dtype, or the one asked for
  kVocabulary,   // likewise, but in 8 bits where others have 4: embedding and output
  kExactMatrix,  // likewise, but never in 8 bits or less: it is small, and decides much
  kGain,         // f32, as are the rest
  kBias,
  kMix,  // [in, out] of heads
};

// One tensor of a model: where the checkpoint has it and where the forward pass looks for it.
struct TensorSpec {
  std::string name;            // in the checkpoint
  TensorView* view = nullptr;  // where it goes
  std::vector<int64_t> shape;  // of the view
  TensorRole role = TensorRole::kMatrix;
  bool joins = false;  // lies right behind the one before it: both are factors of one product

  // How it is stored, where that differs from the view.
  std::vector<int64_t> stored_shape;  // empty: as `shape`
  int64_t first_row = 0;              // of the view, in a stored tensor that holds several
  // The order of the rows of every head: row i of a head is stored as its row head_rows[i].
  std::vector<int> head_rows;
  double scale = 1.0;                   // of a gain, which is offset + scale * what is stored
  double offset = 0.0;                  //
  std::vector<int64_t> repeated_shape;  // may be stored instead, and is repeated then
  // Elements are read as three dimensions and laid out with these outermost to innermost.
  std::array<int64_t, 3> dims{};
  std::array<int, 3> order{};  // all zero: as they are
  // [d, d] f32, loaded before: applied to the d rows of every head (head_transform.h).
  const TensorView* head_transform = nullptr;
  bool is_expert = false;     // one of several matrices that meet the same rows
  bool is_temporary = false;  // of no use once all is loaded

  bool is_matrix() const { return role <= TensorRole::kExactMatrix; }
  // The dtype of a matrix for which this one is wanted and that one is at hand.
  DType MatrixDType(DType wanted, DType stored) const;
};

// Every tensor of a model, each once: what is loaded, checked, placed, made up, planned. Views
// belong to whoever listed them, but for temporary ones.
class TensorList {
 public:
  void Add(TensorSpec spec) { specs_.push_back(std::move(spec)); }
  // A view for a temporary tensor, at an address that stays.
  TensorView* MakeTemporary() { return &temporaries_.emplace_back(); }
  // The spec of that view; null where it is not listed.
  const TensorSpec* Find(const TensorView& view) const;
  // Likewise, of one that must be.
  TensorSpec& Of(const TensorView& view);

  const std::vector<TensorSpec>& specs() const { return specs_; }

 private:
  size_t IndexOf(const TensorView& view) const;  // specs().size(): not listed

  std::vector<TensorSpec> specs_;
  std::deque<TensorView> temporaries_;
};

// The list cut into runs: a tensor and those that join it.
std::vector<std::span<const TensorSpec>> RunsOf(const TensorList& list);

}  // namespace mea
