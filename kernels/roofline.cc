#include "kernels/roofline.h"

#include <array>
#include <chrono>
#include <tuple>
#include <utility>

#include "kernels/cost.h"
#include "kernels/cpu/roofline.h"
#include "kernels/random_fill.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

template <typename Work>
double SecondsOf(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class HostMeter : public RooflineMeter {
 public:
  explicit HostMeter(int num_threads) : reader_(num_threads), loop_(num_threads) {}

  absl::StatusOr<Roofline> Read(DType weights) override {
    const double reading = SecondsOf([&] { reader_.Run(); });
    return Roofline{.bytes_per_second = static_cast<double>(reader_.bytes()) / reading,
                    .flops_per_second = FlopsPerSecond(DType::kF32),
                    .product_flops_per_second = FlopsPerSecond(weights)};
  }

 private:
  double FlopsPerSecond(DType weights) {
    const double seconds = SecondsOf([&] { loop_.Run(weights); });
    return static_cast<double>(loop_.flops(weights)) / seconds;
  }

  MemoryReader reader_;
  ProductLoop loop_;
};

class DeviceMeter : public RooflineMeter {
 public:
  static absl::StatusOr<std::unique_ptr<RooflineMeter>> Create(std::unique_ptr<Backend> owned,
                                                               const RooflineSizes& sizes) {
    std::unique_ptr<DeviceMeter> meter(new DeviceMeter(std::move(owned)));
    Backend& backend = *meter->backend_;
    const int64_t n = sizes.product_size;
    const int size = static_cast<int>(n);
    MEA_RETURN_IF_ERROR(backend.Prepare({.max_rows = size,
                                         .max_seqs = 1,
                                         .max_context = 1,
                                         .max_logit_rows = 1,
                                         .page_size = 64,
                                         .hidden_size = 8,
                                         .vocab_size = 8,
                                         .products = {{size, size}}}));
    const DType compute = backend.compute_dtype();
    const DType weights = backend.weight_dtype().value_or(DType::kBf16);
    const std::array<int64_t, 1> elements = {sizes.copy_bytes / DTypeSize(compute)};
    const std::array<int64_t, 2> square = {n, n};
    for (const auto& [tensor, shape, dtype] :
         {std::tuple(&meter->from_, std::span<const int64_t>(elements), compute),
          std::tuple(&meter->to_, std::span<const int64_t>(elements), compute),
          std::tuple(&meter->x_, std::span<const int64_t>(square), compute),
          std::tuple(&meter->w_, std::span<const int64_t>(square), weights),
          std::tuple(&meter->y_, std::span<const int64_t>(square), compute)}) {
      MEA_ASSIGN_OR_RETURN(*tensor, backend.Allocate(shape, dtype));
      MEA_RETURN_IF_ERROR(FillRandom(backend, tensor->view(), {}));
    }
    // The first run of each includes choosing an algorithm and raising the clock rate.
    MEA_RETURN_IF_ERROR(meter->Read(weights).status());
    return meter;
  }

  absl::StatusOr<Roofline> Read(DType) override {
    constexpr int kRepeats = 3;
    absl::Status status;
    const auto seconds = [&](auto op) {
      return SecondsOf([&] {
        for (int i = 0; i < kRepeats; ++i) op();
        status.Update(backend_->Synchronize());
      });
    };
    const double copying =
        seconds([&] { backend_->Copy({.from = from_.view(), .to = to_.view()}); });
    const double computing =
        seconds([&] { backend_->MatMul(x_.view(), {.w = w_.view(), .out = y_.view()}); });
    MEA_RETURN_IF_ERROR(status);
    const int64_t n = x_.view().shape[0];
    const OpCost product = MatMulCost(n, n, n, w_.view().dtype, x_.view().dtype);
    const double flops_per_second = static_cast<double>(product.flops) * kRepeats / computing;
    return Roofline{
        .bytes_per_second = 2.0 * static_cast<double>(from_.num_bytes()) * kRepeats / copying,
        .flops_per_second = flops_per_second,
        .product_flops_per_second = flops_per_second};
  }

 private:
  explicit DeviceMeter(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

  const std::unique_ptr<Backend> backend_;  // first: the tensors are its memory
  Tensor from_, to_;                        // [copy_bytes / size]
  Tensor x_, w_, y_;                        // [n, n]
};

}  // namespace

absl::StatusOr<std::unique_ptr<RooflineMeter>> CreateRooflineMeter(std::unique_ptr<Backend> backend,
                                                                   const RooflineSizes& sizes) {
  if (backend->device() != Device::kCpu) return DeviceMeter::Create(std::move(backend), sizes);
  return std::make_unique<HostMeter>(sizes.num_threads);
}

}  // namespace mea
