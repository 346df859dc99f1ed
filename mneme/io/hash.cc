#include "mneme/io/hash.h"

#include <xxhash.h>

#include <array>
#include <cstdio>
#include <new>

namespace mneme {

struct Hash::State {
  State() : xxh(XXH3_createState()) {
    if (xxh == nullptr) throw std::bad_alloc();
    XXH3_128bits_reset(xxh);
  }
  ~State() { XXH3_freeState(xxh); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  XXH3_state_t* xxh;
};

Hash::Hash() : state_(std::make_unique<State>()) {}
Hash::~Hash() = default;

void Hash::add(const void* data, int64_t bytes) {
  if (bytes > 0) XXH3_128bits_update(state_->xxh, data, static_cast<size_t>(bytes));
}

void Hash::add_text(std::string_view text) {
  const auto length = static_cast<uint64_t>(text.size());
  add(&length, sizeof length);
  add(text.data(), static_cast<int64_t>(text.size()));
}

std::string Hash::text() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  std::array<char, 33> text;
  std::snprintf(text.data(), text.size(), "%016llx%016llx",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text.data();
}

}  // namespace mneme
