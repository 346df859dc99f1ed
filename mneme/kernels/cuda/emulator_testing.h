// Runs a CUDA block on the CPU, for tests of the kernels where there is no GPU: every thread is a
// context of its own on one core, and the collective operations of platform.cuh exchange values
// through memory. It proves indices, masks, fragment layouts and arithmetic; it cannot prove what
// only hardware shows (races between warps that a barrier should prevent, bank conflicts, speed).
// Shared memory is filled with NaN before every block.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/core/half.h"

#define MNEME_KERNEL
#define MNEME_DEVICE inline
#define MNEME_UNROLL
#define MNEME_UNROLL_4

namespace mneme::cuda {

struct EmulatedGrid {
  int x = 1, y = 1, z = 1;
};

class EmulatedBlock {
 public:
  static EmulatedBlock*& current() {
    static EmulatedBlock* block = nullptr;
    return block;
  }

  EmulatedBlock(int threads, int64_t shared_bytes, std::function<void()> kernel)
      : kernel_(std::move(kernel)), shared_(static_cast<size_t>(shared_bytes / 128 + 2) * 128) {
    MNEME_CHECK(threads % kWarp == 0, "emulator: whole warps only, got ", threads, " threads");
    threads_.resize(static_cast<size_t>(threads));
    warps_.resize(threads_.size() / kWarp);
    for (Thread& thread : threads_) thread.stack = std::make_unique_for_overwrite<char[]>(kStack);
  }

  void run(EmulatedGrid at) {
    index = at;
    std::memset(shared_.data(), 0xff, shared_.size());
    for (Warp& warp : warps_) warp = Warp();
    barrier_ = {};
    current() = this;
    for (Thread& thread : threads_) {
      thread.begun = thread.done = false;
      thread.exchanges = thread.barriers = 0;
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.get();
      thread.context.uc_stack.ss_size = kStack;
      thread.context.uc_link = nullptr;
      makecontext(&thread.context, &EmulatedBlock::enter, 0);
    }
    for (left_ = threads_.size(); left_ > 0;) {
      for (active_ = 0; active_ < threads_.size(); ++active_) {
        if (!threads_[active_].done) resume();
      }
    }
    current() = nullptr;
  }

  int thread() const { return static_cast<int>(active_); }
  char* shared() {
    const auto address = reinterpret_cast<uintptr_t>(shared_.data());
    return shared_.data() + (128 - address % 128) % 128;
  }

  void barrier() {
    const int64_t turn = threads_[active_].barriers++;
    int64_t& arrived = barrier_[static_cast<size_t>(turn % 2)];
    ++arrived;
    while (arrived < (turn / 2 + 1) * static_cast<int64_t>(threads_.size())) yield();
  }

  // Every lane of the warp puts `value` in and gets what all 32 put in; valid until the next but
  // one exchange.
  template <typename Value>
  const Value* exchange(const Value& value) {
    static_assert(sizeof(Value) <= kSlot);
    Warp& warp = warps_[active_ / kWarp];
    const int64_t turn = threads_[active_].exchanges++;
    const auto slot = static_cast<size_t>(turn % 2);
    auto* slots = reinterpret_cast<Value*>(warp.slots[slot]);
    std::memcpy(static_cast<void*>(slots + active_ % kWarp), &value, sizeof(Value));
    ++warp.arrived[slot];
    while (warp.arrived[slot] < (turn / 2 + 1) * kWarp) yield();
    return slots;
  }

  EmulatedGrid index;

 private:
  static constexpr int64_t kWarp = 32;
  static constexpr size_t kStack = 64 << 10;
  static constexpr size_t kSlot = 32;

  struct Thread {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    jmp_buf place;
    bool begun = false, done = false;
    int64_t exchanges = 0, barriers = 0;
  };
  struct Warp {
    alignas(64) char slots[2][kWarp * kSlot];
    int64_t arrived[2] = {};
  };

  // Only the first step into a thread needs a context; jumps are far cheaper, as they leave the
  // signal mask alone.
  void resume() {
    if (_setjmp(scheduler_) != 0) return;
    Thread& thread = threads_[active_];
    if (thread.begun) _longjmp(thread.place, 1);
    thread.begun = true;
    setcontext(&thread.context);
  }
  static void enter() {
    EmulatedBlock* block = current();
    block->kernel_();
    block->threads_[block->active_].done = true;
    --block->left_;
    _longjmp(block->scheduler_, 1);
  }
  void yield() {
    if (_setjmp(threads_[active_].place) == 0) _longjmp(scheduler_, 1);
  }

  std::function<void()> kernel_;
  std::vector<char> shared_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::array<int64_t, 2> barrier_{};
  size_t active_ = 0, left_ = 0;
  jmp_buf scheduler_;
};

// kernel<<<grid, threads, shared_bytes>>>()
inline void emulate(EmulatedGrid grid, int threads, int64_t shared_bytes,
                    const std::function<void()>& kernel) {
  EmulatedBlock block(threads, shared_bytes, kernel);
  for (int z = 0; z < grid.z; ++z)
    for (int y = 0; y < grid.y; ++y)
      for (int x = 0; x < grid.x; ++x) block.run({x, y, z});
}

inline int thread_index() { return EmulatedBlock::current()->thread(); }
inline int block_x() { return EmulatedBlock::current()->index.x; }
inline int block_y() { return EmulatedBlock::current()->index.y; }
inline int block_z() { return EmulatedBlock::current()->index.z; }
inline void block_sync() { EmulatedBlock::current()->barrier(); }
inline char* shared_memory() { return EmulatedBlock::current()->shared(); }
inline float shuffle_xor(float value, int mask) {
  return EmulatedBlock::current()->exchange(value)[thread_index() % 32 ^ mask];
}
inline float exp2_of(float x) { return std::exp2(x); }

inline float to_float(F16, uint16_t bits) { return f16_to_float(bits); }
inline float to_float(BF16, uint16_t bits) { return bf16_to_float(bits); }
inline uint16_t from_float(F16, float x) { return float_to_f16(x); }
inline uint16_t from_float(BF16, float x) { return float_to_bf16(x); }

struct EmulatedOperands {
  uint32_t a[4], b[2];
};

inline EmulatedOperands operands_of(const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  return {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
}

// c += a b with element k of a lane's register pair found by at(register, k).
template <int kDepth, typename A, typename B>
inline void emulated_product(float (&c)[4], const A& a_at, const B& b_at) {
  const int lane = thread_index() % 32, row = lane / 4, column = lane % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    float sum = c[i];
    for (int k = 0; k < kDepth; ++k) sum += a_at(row + i / 2 * 8, k) * b_at(k, column + i % 2);
    c[i] = sum;
  }
}

template <class T>
inline void multiply(T type, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const EmulatedOperands* lanes = EmulatedBlock::current()->exchange(operands_of(a, b));
  const auto half = [&](uint32_t pair, int which) {
    return to_float(type, static_cast<uint16_t>(which == 0 ? pair : pair >> 16));
  };
  emulated_product<16>(
      c,
      [&](int row, int k) {
        return half(lanes[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2], k % 2);
      },
      [&](int k, int column) { return half(lanes[column * 4 + k % 8 / 2].b[k / 8], k % 2); });
}

inline void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const EmulatedOperands* lanes = EmulatedBlock::current()->exchange(operands_of(a, b));
  const auto value = [](uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
  };
  emulated_product<8>(
      c, [&](int row, int k) { return value(lanes[row % 8 * 4 + k % 4].a[row / 8 + k / 4 * 2]); },
      [&](int k, int column) { return value(lanes[column * 4 + k % 4].b[k / 4]); });
}

inline uint32_t to_tf32(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return (bits + 0x1000u) & ~0x1fffu;
}

inline void load_matrices(uint32_t (&r)[4], const uint16_t* row) {
  const uint16_t* const* rows = EmulatedBlock::current()->exchange(row);
  const int lane = thread_index() % 32;
  for (int m = 0; m < 4; ++m) {
    const uint16_t* from = rows[8 * m + lane / 4] + lane % 4 * 2;
    r[m] = uint32_t{from[0]} | uint32_t{from[1]} << 16;
  }
}
inline void load_transposed(uint32_t (&r)[4], const uint16_t* row) {
  const uint16_t* const* rows = EmulatedBlock::current()->exchange(row);
  const int lane = thread_index() % 32;
  for (int m = 0; m < 4; ++m) {
    const int first = 8 * m + lane % 4 * 2;
    r[m] = uint32_t{rows[first][lane / 4]} | uint32_t{rows[first + 1][lane / 4]} << 16;
  }
}

inline void copy_async(void* shared, const void* global, bool valid) {
  MNEME_CHECK(reinterpret_cast<uintptr_t>(shared) % 16 == 0 &&
                  reinterpret_cast<uintptr_t>(global) % 16 == 0,
              "emulator: an asynchronous copy wants 16-byte addresses");
  if (valid) {
    std::memcpy(shared, global, 16);
  } else {
    std::memset(shared, 0, 16);
  }
}
inline void copy_commit() {}
template <int kLeft>
inline void copy_wait() {}

}  // namespace mneme::cuda
