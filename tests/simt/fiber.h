#pragma once

#include <cstddef>

namespace mea::simt {

// A flow of control with a stack of its own, entered and left only by SwitchFrom. One host thread
// owns a fiber. A default-made fiber stands for the flow of control that already runs.
class Fiber {
 public:
  Fiber() = default;
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next switch to this fiber call entry(), which must never return. Whatever the fiber
  // was doing before is forgotten; its stack is kept.
  void Start(void (*entry)());

  // Leaves the running fiber `from` for this one; returns when somebody switches to `from` again.
  void SwitchFrom(Fiber& from);

  // The first act of every entry(): tells the address sanitizer, if there is one, of the new stack.
  void Entered();

 private:
  void AllocateStack();
  void AdoptThreadStack();

  void* stack_pointer_ = nullptr;  // where the registers of the suspended fiber lie
  std::byte* mapping_ = nullptr;   // a guard page, then the stack
  size_t colour_bytes_ = 0;        // of the stack's top, left unused
  void* fake_stack_ = nullptr;     // of the address sanitizer
  const void* stack_bottom_ = nullptr;
  size_t stack_bytes_ = 0;
};

}  // namespace mea::simt
