#pragma once

#include <cstddef>
#include <cstdint>

namespace mea::jinja {

// The bounds of a template. The largest public chat templates have 20 kB and render a conversation
// of a hundred messages in some ten thousand steps.
inline constexpr size_t kMaxSourceBytes = size_t{1} << 20;
inline constexpr int kMaxParseDepth = 200;          // expressions and blocks within each other
inline constexpr int64_t kMaxSteps = 2'000'000;     // nodes evaluated, items visited
inline constexpr int kMaxCallDepth = 200;           // macros within each other
inline constexpr int kMaxEvalDepth = 1500;          // nodes being evaluated within each other
inline constexpr int kMaxValueDepth = 200;          // lists within lists
inline constexpr size_t kMaxStringBytes = 8 << 20;  // one string, the rendered text too
inline constexpr int64_t kMaxLiveBytes = 64 << 20;  // all values that the template holds
inline constexpr int64_t kMaxRange = 100'000;       // items of a range()
inline constexpr int64_t kBytesPerStep = 256;  // of string that count as one step: 512 MB in all
inline constexpr int64_t kStepsBetweenChecks = 4096;  // for interruptions

}  // namespace mea::jinja
