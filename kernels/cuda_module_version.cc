#include "kernels/cuda_module.h"

namespace mea {

// In a file of its own: program and module each compile it.
const char* CudaModuleVersion() { return MEA_CUDA_MODULE_VERSION; }

}  // namespace mea
