// The CUDA decode kernels on a device against the CPU kernel over the same pages.
#include <gtest/gtest.h>

#include <memory>

#include "mneme/core/thread_pool.h"
#include "mneme/kernels/attention_testing.h"
#include "mneme/kernels/cuda/paged_attention.h"
#include "tests/cuda/on_device.cuh"

namespace mneme::cuda {
namespace {

// Pages copied to the device one by one, their views with device addresses.
class PagesOnDevice {
 public:
  PagesOnDevice(const RowFormat& format, const std::vector<std::span<const PageView>>& heads) {
    std::vector<PageView> views;
    std::vector<int32_t> begin = {0};
    for (const auto& head : heads) {
      for (PageView view : head) {
        const std::vector<std::byte> bytes(view.data, view.data + format.page_bytes());
        pages_.push_back(std::make_unique<OnDevice<std::byte>>(bytes));
        view.data = pages_.back()->data();
        views.push_back(view);
      }
      begin.push_back(static_cast<int32_t>(views.size()));
      longest_ = std::max(longest_, static_cast<int64_t>(head.size()));
    }
    views_ = std::make_unique<OnDevice<PageView>>(views);
    begin_ = std::make_unique<OnDevice<int32_t>>(begin);
  }
  DevicePages view() const { return {views_->data(), begin_->data(), longest_}; }

 private:
  std::vector<std::unique_ptr<OnDevice<std::byte>>> pages_;
  std::unique_ptr<OnDevice<PageView>> views_;
  std::unique_ptr<OnDevice<int32_t>> begin_;
  int64_t longest_ = 0;
};

TEST(CudaPages, EqualTheCpuKernel) {
  constexpr int64_t kQueryHeads = 9, kKvHeads = 3, kDim = 64, kRows = 5000;
  ThreadPool pool;
  AttentionScratch scratch;
  for (const RowEncoding encoding : {RowEncoding::kF32, RowEncoding::kF16, RowEncoding::kBF16,
                                     RowEncoding::kQ8, RowEncoding::kQ4}) {
    Rng rng(1);
    const RowFormat format{encoding, kDim, kDim};
    testing::PagedRows rows(format, kKvHeads);
    rows.fill(kRows, rng);
    const auto& heads = rows.views();
    const PagesOnDevice pages(format, heads);
    for (const int64_t queries : {1, 5}) {
      for (const int64_t window : {0, 1000}) {
        const PagedAttention config{format, kQueryHeads, kKvHeads, 0.125f, 0, {window, 4}};
        const std::vector<float> q = testing::normals(rng, queries * kQueryHeads * kDim);
        std::vector<float> want(q.size()), got(q.size());
        mneme::paged_attention(config, queries, kRows - queries, q.data(), heads, want.data(),
                               scratch, pool);
        const OnDevice<float> device_q(q), out(got);
        const OnDevice<char> workspace(std::vector<char>(static_cast<size_t>(
            paged_attention_workspace_bytes(config, queries, pages.view().longest))));
        paged_attention(config, queries, kRows - queries, device_q.data(), pages.view(), out.data(),
                        workspace.data());
        out.read(got);
        // Over quantised rows the CPU kernel rounds queries and weights to 15 bits, which errs by
        // about 2e-5 here; ten times that is far from chance.
        const double limit = format.quantised() ? 2e-4 : 4e-6;
        for (size_t i = 0; i < got.size(); ++i) {
          ASSERT_NEAR(got[i], want[i], limit) << row_encoding_name(encoding) << " " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace mneme::cuda
