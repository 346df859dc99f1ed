#include "mneme/io/special_splitter.h"

#include <algorithm>
#include <functional>
#include <map>

#include "mneme/core/error.h"

namespace mneme {
namespace {

constexpr size_t kLongestSpecial = 1024;

}  // namespace

SpecialSplitter::SpecialSplitter(const Vocabulary& vocabulary) {
  roots_.fill(-1);
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.is_special(id)) continue;
    const std::string& piece = vocabulary.spelling(id);
    MNEME_CHECK(piece.size() <= kLongestSpecial, vocabulary.data().origin, ": special piece ", id,
                " has ", piece.size(), " bytes, at most ", kLongestSpecial, " are accepted");
    insert(piece, id, vocabulary.type(id) == PieceType::kUserDefined);
  }
}

void SpecialSplitter::insert(std::string_view piece, int32_t id, bool user_defined) {
  int32_t node = -1;
  for (const char c : piece) {
    const auto byte = static_cast<uint8_t>(c);
    int32_t next = node < 0 ? roots_[byte] : child(node, byte);
    if (next < 0) {
      next = static_cast<int32_t>(nodes_.size());
      Node fresh;
      fresh.byte = byte;
      if (node < 0) {
        roots_[byte] = next;
      } else {
        fresh.next_sibling = nodes_[static_cast<size_t>(node)].first_child;
        nodes_[static_cast<size_t>(node)].first_child = next;
      }
      nodes_.push_back(fresh);
    }
    node = next;
  }
  nodes_[static_cast<size_t>(node)].id = id;
  nodes_[static_cast<size_t>(node)].user_defined = user_defined;
}

int32_t SpecialSplitter::child(int32_t node, uint8_t byte) const {
  int32_t next = nodes_[static_cast<size_t>(node)].first_child;
  while (next >= 0 && nodes_[static_cast<size_t>(next)].byte != byte)
    next = nodes_[static_cast<size_t>(next)].next_sibling;
  return next;
}

SpecialSplitter::Match SpecialSplitter::longest(std::string_view text, SpecialTokens mode) const {
  Match best;
  int32_t node = roots_[static_cast<uint8_t>(text[0])];
  for (size_t length = 1; node >= 0; ++length) {
    const Node& here = nodes_[static_cast<size_t>(node)];
    if (here.id >= 0 && (here.user_defined || mode == SpecialTokens::kParse))
      best = {length, here.id};
    if (length == text.size()) break;
    node = child(node, static_cast<uint8_t>(text[length]));
  }
  return best;
}

std::vector<TextFragment> SpecialSplitter::split(std::string_view text, SpecialTokens mode) const {
  // Start positions by the length of what is tried there: each position waits under the longest
  // piece that still fits, and moves to a shorter one when its place is partly taken.
  std::map<size_t, std::vector<size_t>, std::greater<>> waiting;
  for (size_t at = 0; at < text.size(); ++at) {
    if (roots_[static_cast<uint8_t>(text[at])] < 0) continue;
    if (const Match match = longest(text.substr(at), mode); match.length > 0)
      waiting[match.length].push_back(at);
  }
  if (waiting.empty()) {
    if (text.empty()) return {};
    return {{text, -1}};
  }

  std::vector<std::pair<size_t, Match>> taken;
  std::vector<bool> is_taken(text.size(), false);
  while (!waiting.empty()) {
    const size_t length = waiting.begin()->first;
    std::vector<size_t> starts = std::move(waiting.begin()->second);
    waiting.erase(waiting.begin());
    std::sort(starts.begin(), starts.end());
    for (const size_t at : starts) {
      size_t room = 0;
      while (room < length && !is_taken[at + room]) ++room;
      if (room == 0) continue;
      const Match match = longest(text.substr(at, room), mode);
      if (room < length) {
        if (match.length > 0) waiting[match.length].push_back(at);
        continue;
      }
      taken.emplace_back(at, match);
      std::fill_n(is_taken.begin() + static_cast<std::ptrdiff_t>(at), length, true);
    }
  }

  std::sort(taken.begin(), taken.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<TextFragment> fragments;
  size_t done = 0;
  for (const auto& [at, match] : taken) {
    if (at > done) fragments.push_back({text.substr(done, at - done), -1});
    fragments.push_back({text.substr(at, match.length), match.id});
    done = at + match.length;
  }
  if (done < text.size()) fragments.push_back({text.substr(done), -1});
  return fragments;
}

}  // namespace mneme
