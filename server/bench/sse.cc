#include "server/bench/sse.h"

namespace mea {

void SseReader::Feed(std::string_view bytes, const OnData& on_data) {
  for (const char c : bytes) {
    const bool continues_cr = after_cr_ && c == '\n';
    after_cr_ = c == '\r';
    if (continues_cr) continue;
    if (c == '\r' || c == '\n') {
      EndLine(on_data);
    } else {
      line_ += c;
    }
  }
}

void SseReader::EndLine(const OnData& on_data) {
  if (line_.empty()) {
    if (has_data_) on_data(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  constexpr std::string_view kData = "data";
  const std::string_view line = line_;
  const size_t colon = line.find(':');
  if (line.substr(0, colon) == kData) {
    std::string_view value = colon == line.npos ? "" : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += value;
    has_data_ = true;
  }
  line_.clear();
}

}  // namespace mea
