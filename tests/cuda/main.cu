// Runs the tests of the CUDA kernels on a device. Without one: says why and exits with 77.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    std::printf("cuda_test: skipped, nothing was run: %s\n",
                status != cudaSuccess ? cudaGetErrorString(status) : "no CUDA device");
    return 77;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
