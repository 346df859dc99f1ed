// A copy of a host array on the device, for the tests of the CUDA kernels.
#pragma once

#include <algorithm>
#include <vector>

#include "mneme/kernels/cuda/stream_launch.cuh"

namespace mneme::cuda {

template <typename Value>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<Value>& values) : count_(values.size()) {
    check_cuda(cudaMalloc(&data_, std::max<size_t>(1, count_) * sizeof(Value)), "cudaMalloc");
    check_cuda(cudaMemcpy(data_, values.data(), count_ * sizeof(Value), cudaMemcpyHostToDevice),
               "cudaMemcpy");
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  Value* data() const { return static_cast<Value*>(data_); }
  // Waits for everything queued, its errors included.
  void read(std::vector<Value>& values) const {
    check_cuda(cudaMemcpy(values.data(), data_, count_ * sizeof(Value), cudaMemcpyDeviceToHost),
               "cudaMemcpy");
  }

 private:
  size_t count_;
  void* data_ = nullptr;
};

}  // namespace mneme::cuda
