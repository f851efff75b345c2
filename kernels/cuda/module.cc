// What the module exports: the one symbol that kernels/cuda_module.cc looks for.

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_info.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda_module.h"

extern "C" {
extern __attribute__((visibility("default")))
const mea::CudaModule mea_cuda_module = {mea::CudaModuleVersion(), mea::cuda::CreateCudaBackend,
                                         mea::cuda::DescribeDevice, mea::cuda::PlannedBytes};
}
