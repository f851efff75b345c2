# Makes CUDA a language of the build: C++20 and the code of the architectures we write for.
include(CheckLanguage)

# 90a, not 90: wgmma and the other Hopper-only instructions do not assemble without it. 80 runs on
# every 8.x. "-real": no PTX beside the machine code, which no other architecture could run anyway.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90a-real 80-real)
endif()
# nvcc is seldom on the PATH of a fresh machine.
if(NOT DEFINED ENV{CUDACXX} AND NOT DEFINED CMAKE_CUDA_COMPILER)
  find_program(MEA_NVCC nvcc HINTS /usr/local/cuda/bin)
  if(MEA_NVCC)
    set(CMAKE_CUDA_COMPILER ${MEA_NVCC})
  endif()
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "MEA_CUDA is on, but no nvcc was found; install the CUDA toolkit or set CUDACXX")
endif()
enable_language(CUDA)

# CMake 3.25 does not know that nvcc 13 speaks C++20.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
