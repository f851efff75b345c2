#pragma once

// <dlfcn.h>, where opening libcublasLt.so gives the functions of tests/simt/cublasLt.h.

#include_next <dlfcn.h>

namespace mea::simt {

void* OpenLibrary(const char* name, int flags);
void* FindSymbol(void* library, const char* name);
int CloseLibrary(void* library);
const char* LibraryError();

// As if cuBLAS were not installed: opening it fails.
void HideCublas(bool hide);

}  // namespace mea::simt

#define dlopen(name, flags) ::mea::simt::OpenLibrary(name, flags)
#define dlsym(library, name) ::mea::simt::FindSymbol(library, name)
#define dlclose(library) ::mea::simt::CloseLibrary(library)
#define dlerror() ::mea::simt::LibraryError()
