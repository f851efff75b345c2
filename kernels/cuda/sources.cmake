# What the CUDA back end is made of, from the root of the project. nvcc compiles it into the module
# (CMakeLists.txt beside this file), g++ a second time for the emulator (tests/kernels/cuda).
set(MEA_CUDA_SOURCES
  kernels/cuda/attention/attention.cc
  kernels/cuda/attention/combine.cu
  kernels/cuda/attention/decode_general.cu
  kernels/cuda/attention/decode_mma.cu
  kernels/cuda/attention/decode_wgmma.cu
  kernels/cuda/attention/expand.cu
  kernels/cuda/attention/prefill_mma.cu
  kernels/cuda/attention/work_list.cu
  kernels/cuda/attention_ops.cc
  kernels/cuda/cublas_lt.cc
  kernels/cuda/cuda_backend.cc
  kernels/cuda/device_info.cc
  kernels/cuda/gemm.cc
  kernels/cuda/linear/skinny_gemm.cu
  kernels/cuda/narrow.cu
  kernels/cuda/recorder.cc
  kernels/cuda/rope/angles.cu
  kernels/cuda/rope/prepare_append.cu
  kernels/cuda/runtime.cc
  kernels/cuda/row_ops.cc
  kernels/cuda/rowwise/elementwise.cu
  kernels/cuda/rowwise/norm.cu
  kernels/cuda/sample/sample.cu
  kernels/cuda/sample_queue.cc
  kernels/cuda/scratch.cc)
