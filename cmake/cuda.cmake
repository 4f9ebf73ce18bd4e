# The GPU's kernels. TENFOLD_CUDA_FOUND: nvcc is here and its code is built in;
# left out in sanitizer builds, which have no use for it. TENFOLD_CUDA_HOST: the
# same sources can be compiled for the processor, for the tests (core/tensor/cuda/host).
set(TENFOLD_CUDA_FOUND OFF)
if(NOT TENFOLD_CUDA STREQUAL OFF AND (TENFOLD_CUDA STREQUAL ON OR NOT TENFOLD_SANITIZE))
  include(CheckLanguage)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90 CACHE STRING "Compute capabilities")
  find_program(nvcc_program nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin)
  if(nvcc_program AND NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${nvcc_program} CACHE FILEPATH "")
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(TENFOLD_CUDA_FOUND ON)
  elseif(TENFOLD_CUDA STREQUAL ON)
    message(FATAL_ERROR "TENFOLD_CUDA=ON, but nvcc is not found: put it on the PATH or set CMAKE_CUDA_COMPILER")
  endif()
endif()
message(STATUS "GPU kernels: ${TENFOLD_CUDA_FOUND}")

set(TENFOLD_CUDA_HOST OFF)
set(TENFOLD_CUDA_HOST_TESTS ops CACHE STRING "Tests of the GPU's kernels on the processor: ops (seconds) or all (minutes)")
# Fibers are known to the address sanitizer, not to the thread sanitizer.
if(CMAKE_SYSTEM_PROCESSOR STREQUAL x86_64 AND NOT TENFOLD_SANITIZE MATCHES thread)
  set(TENFOLD_CUDA_HOST ON)
endif()
