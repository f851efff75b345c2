#pragma once

#include <functional>
#include <future>
#include <memory>
#include <utility>

#include "kernels/forwarding_backend.h"

namespace mea::testing {

// Calls `before` when a forward pass begins: a moment in the middle of a step.
class HookedBackend final : public ForwardingBackend {
 public:
  HookedBackend(std::unique_ptr<Backend> to, std::function<void()> before)
      : ForwardingBackend(std::move(to)), before_(std::move(before)) {}
  void Embed(TensorView table, TensorView ids, TensorView out) override {
    before_();
    ForwardingBackend::Embed(table, ids, out);
  }

 private:
  const std::function<void()> before_;
};

// Calls `after` when a norm inside a layer has been computed: twice per layer.
class LayerHookBackend final : public ForwardingBackend {
 public:
  LayerHookBackend(std::unique_ptr<Backend> to, std::function<void()> after)
      : ForwardingBackend(std::move(to)), after_(std::move(after)) {}
  void AddRmsNorm(TensorView delta, TensorView residual, TensorView gain, float eps,
                  TensorView out) override {
    ForwardingBackend::AddRmsNorm(delta, residual, gain, eps, out);
    after_();
  }

 private:
  const std::function<void()> after_;
};

// A device whose first step lasts until it is told to fail.
class FailingBackend final : public ForwardingBackend {
 public:
  FailingBackend(std::unique_ptr<Backend> to, std::shared_future<void> fails)
      : ForwardingBackend(std::move(to)), fails_(std::move(fails)) {}
  void Embed(TensorView table, TensorView ids, TensorView out) override {
    in_step_ = true;
    ForwardingBackend::Embed(table, ids, out);
  }
  absl::Status Synchronize() override {
    if (!in_step_) return ForwardingBackend::Synchronize();
    fails_.wait();
    return absl::InternalError("CUDA: an illegal memory access was encountered");
  }

 private:
  const std::shared_future<void> fails_;
  bool in_step_ = false;
};

}  // namespace mea::testing
