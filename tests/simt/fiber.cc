#include "tests/simt/fiber.h"

#include <sys/mman.h>

#include <cstdint>

#include "kernels/check.h"

#if !defined(__x86_64__) || !defined(__linux__)
#error "the emulator switches fibers on x86-64 Linux only"
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#define MEA_SIMT_ASAN 1
#else
#define MEA_SIMT_ASAN 0
#endif

// void mea_simt_switch(void** save, void* load): pushes what the ABI lets a callee keep, stores the
// stack pointer in *save, takes over `load` and pops the same there.
extern "C" void mea_simt_switch(void** save, void* load);
asm(R"(
.text
.globl mea_simt_switch
.hidden mea_simt_switch
.type mea_simt_switch, @function
mea_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size mea_simt_switch, . - mea_simt_switch
)");

namespace mea::simt {
namespace {

constexpr size_t kGuardBytes = 4096;
// Instrumented frames are several times as large.
constexpr size_t kStackBytes = MEA_SIMT_ASAN ? 512 << 10 : 128 << 10;
constexpr int kSavedRegisters = 6;

}  // namespace

Fiber::~Fiber() {
  if (mapping_ != nullptr) munmap(mapping_, kGuardBytes + kStackBytes);
}

void Fiber::AllocateStack() {
  void* mapping = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  MEA_CHECK(mapping != MAP_FAILED);
  MEA_CHECK(mprotect(mapping, kGuardBytes, PROT_NONE) == 0);
  mapping_ = static_cast<std::byte*>(mapping);
  stack_bottom_ = mapping_ + kGuardBytes;
  stack_bytes_ = kStackBytes;
  // Stacks that all began at the same offset in a page would share a few sets of the caches.
  static thread_local size_t num_stacks = 0;
  colour_bytes_ = num_stacks++ * 7 % 64 * 64;
}

#if MEA_SIMT_ASAN
// The stack of the host thread, for the fiber that stands for it.
void Fiber::AdoptThreadStack() {
  pthread_attr_t attributes;
  void* bottom = nullptr;
  MEA_CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
  MEA_CHECK(pthread_attr_getstack(&attributes, &bottom, &stack_bytes_) == 0);
  pthread_attr_destroy(&attributes);
  stack_bottom_ = bottom;
}
#endif

void Fiber::Start(void (*entry)()) {
  if (mapping_ == nullptr) AllocateStack();
  // From the top: a word of padding, so that entry() finds the stack as after a call; entry's
  // address, which the switch returns to; the registers it pops.
  auto* top = reinterpret_cast<void**>(mapping_ + kGuardBytes + kStackBytes - colour_bytes_);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  stack_pointer_ = top;
}

void Fiber::SwitchFrom(Fiber& from) {
#if MEA_SIMT_ASAN
  if (from.stack_bottom_ == nullptr) from.AdoptThreadStack();
  __sanitizer_start_switch_fiber(&from.fake_stack_, stack_bottom_, stack_bytes_);
#endif
  mea_simt_switch(&from.stack_pointer_, stack_pointer_);
#if MEA_SIMT_ASAN
  // Here `from` runs again; who left for it does not matter.
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::Entered() {
#if MEA_SIMT_ASAN
  // What an earlier run of this fiber left serves again: a new one for each would cost a mapping.
  __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
}

}  // namespace mea::simt
