#pragma once

#include <functional>
#include <future>
#include <memory>
#include <utility>

#include "kernels/backend.h"

namespace mea::testing {

// The CPU back end, in one thread, with an observer.
inline std::unique_ptr<Backend> ObservedCpu(std::unique_ptr<OpObserver> observer) {
  std::unique_ptr<Backend> backend = CreateCpuBackend({.num_threads = 1}).value();
  backend->set_observer(std::move(observer));
  return backend;
}

// Calls `before` when a forward pass begins: a moment in the middle of a step.
class BeforeForward final : public OpObserver {
 public:
  explicit BeforeForward(std::function<void()> before) : before_(std::move(before)) {}
  void OnOp(const OpCall& call, absl::FunctionRef<void()> run) override {
    if (call.As<EmbedArgs>() != nullptr) before_();
    run();
  }

 private:
  const std::function<void()> before_;
};

// Calls `after` when a norm inside a layer has been computed: twice per layer.
class AfterEachNorm final : public OpObserver {
 public:
  explicit AfterEachNorm(std::function<void()> after) : after_(std::move(after)) {}
  void OnOp(const OpCall& call, absl::FunctionRef<void()> run) override {
    run();
    if (call.As<AddRmsNormArgs>() != nullptr) after_();
  }

 private:
  const std::function<void()> after_;
};

// A device whose first step lasts until it is told to fail.
class FailingDevice final : public OpObserver {
 public:
  explicit FailingDevice(std::shared_future<void> fails) : fails_(std::move(fails)) {}
  void OnOp(const OpCall& call, absl::FunctionRef<void()> run) override {
    if (call.As<EmbedArgs>() != nullptr) in_step_ = true;
    run();
  }
  absl::Status OnWait(absl::FunctionRef<absl::Status()> wait) override {
    if (!in_step_) return wait();
    fails_.wait();
    return absl::InternalError("CUDA: an illegal memory access was encountered");
  }

 private:
  const std::shared_future<void> fails_;
  bool in_step_ = false;
};

}  // namespace mea::testing
