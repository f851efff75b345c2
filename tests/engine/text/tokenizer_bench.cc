// Megabytes of text per second of one core:
//   tokenizer_bench [tokenizer.json text.txt]     (without: a test vocabulary and the test texts)

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/text/golden_data.h"

namespace mea {
namespace {

std::string ReadFile(const char* path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

// Of this thread: other programs of the machine do not count.
double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

// The best of five rounds of `work`, for `bytes` of text.
template <typename Work>
void Report(const char* what, size_t bytes, Work work) {
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const double start = CpuSeconds();
    work();
    best = std::max(best, bytes / (CpuSeconds() - start) / 1e6);
  }
  std::printf("%-28s %9zu bytes %8.2f MB/s\n", what, bytes, best);
}

int Run(int argc, char** argv) {
  const std::string kind = "llama3";
  const auto tokenizer = argc > 2 ? Tokenizer::Load(argv[1])
                                  : Tokenizer::Parse(ReadTestData(kind + ".json"), kind + ".json");
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  std::string text = argc > 2 ? ReadFile(argv[2]) : "";
  if (argc <= 2) {
    for (const std::string& line : TestStrings()) text += line + "\n";
  }
  std::vector<int32_t> ids;
  Report("encode", text.size(), [&] { ids = (*tokenizer)->Encode(text); });
  std::printf("%.2f bytes per token\n", static_cast<double>(text.size()) / ids.size());
  Report("encode 100-byte texts", text.size(), [&] {
    for (size_t at = 0; at < text.size(); at += 100) (*tokenizer)->Encode(text.substr(at, 100));
  });
  for (const std::string unit : {"a", " ", "ab", "\n", "\u00e9"}) {
    std::string long_word;
    while (long_word.size() < 100'000) long_word += unit;
    Report(("100 kB of " + (unit == "\n" ? "newline" : unit)).c_str(), long_word.size(),
           [&] { (*tokenizer)->Encode(long_word); });
  }
  Report("decode", text.size(), [&] { (*tokenizer)->Decode(ids, true); });
  Report("stream, four stop strings", text.size(), [&] {
    auto stream = Detokenizer::Create(tokenizer->get(),
                                      {.stop = {"\xf4\x8f\xbf\xbf", "@@}}", "</s]", "\n\n\t{{"}});
    for (const int32_t id : ids) stream->Push(id);
  });
  return 0;
}

}  // namespace
}  // namespace mea

int main(int argc, char** argv) { return mea::Run(argc, argv); }
