#include <cublasLt.h>

#include <string_view>
#include <utility>

#include "tests/simt/dlfcn.h"
#undef dlopen
#undef dlsym
#undef dlclose
#undef dlerror

namespace mea::simt {
namespace {

bool cublas_hidden = false;
const char* last_error = nullptr;  // of ours; read once, as dlerror
char cublas_library;               // its address is the handle

// The name of each function of cublasLt.h and where it is.
#define MEA_SIMT_SYMBOL(name) \
  { #name, reinterpret_cast < void*>(&name) }
const std::pair<std::string_view, void*> kCublasSymbols[] = {
    MEA_SIMT_SYMBOL(cublasLtGetStatusName),
    MEA_SIMT_SYMBOL(cublasLtGetStatusString),
    MEA_SIMT_SYMBOL(cublasLtGetVersion),
    MEA_SIMT_SYMBOL(cublasLtCreate),
    MEA_SIMT_SYMBOL(cublasLtDestroy),
    MEA_SIMT_SYMBOL(cublasLtMatrixLayoutCreate),
    MEA_SIMT_SYMBOL(cublasLtMatrixLayoutDestroy),
    MEA_SIMT_SYMBOL(cublasLtMatrixLayoutSetAttribute),
    MEA_SIMT_SYMBOL(cublasLtMatmulDescCreate),
    MEA_SIMT_SYMBOL(cublasLtMatmulDescDestroy),
    MEA_SIMT_SYMBOL(cublasLtMatmulDescSetAttribute),
    MEA_SIMT_SYMBOL(cublasLtMatmulPreferenceCreate),
    MEA_SIMT_SYMBOL(cublasLtMatmulPreferenceDestroy),
    MEA_SIMT_SYMBOL(cublasLtMatmulPreferenceSetAttribute),
    MEA_SIMT_SYMBOL(cublasLtMatmulAlgoGetHeuristic),
    MEA_SIMT_SYMBOL(cublasLtMatmul),
};
#undef MEA_SIMT_SYMBOL

}  // namespace

void HideCublas(bool hide) { cublas_hidden = hide; }

void* OpenLibrary(const char* name, int flags) {
  if (name != nullptr && std::string_view(name).find("libcublasLt") != std::string_view::npos) {
    if (cublas_hidden) last_error = "libcublasLt: hidden by the test";
    return cublas_hidden ? nullptr : &cublas_library;
  }
  return ::dlopen(name, flags);
}

void* FindSymbol(void* library, const char* name) {
  if (library != &cublas_library) return ::dlsym(library, name);
  for (const auto& [known, address] : kCublasSymbols) {
    if (known == name) return address;
  }
  last_error = "libcublasLt: the emulated library has no such function";
  return nullptr;
}

const char* LibraryError() {
  if (last_error == nullptr) return ::dlerror();
  return std::exchange(last_error, nullptr);
}

int CloseLibrary(void* library) { return library == &cublas_library ? 0 : ::dlclose(library); }

}  // namespace mea::simt
