#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace mea {

// Reads server-sent events (WHATWG HTML, section 9.2) from bytes that may be split anywhere. Fields
// other than `data` are ignored.
class SseReader {
 public:
  using OnData = std::function<void(std::string_view data)>;

  // Calls `on_data` with the data of each event that these bytes complete, in order.
  void Feed(std::string_view bytes, const OnData& on_data);

 private:
  void EndLine(const OnData& on_data);

  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_cr_ = false;  // a line feed now belongs to the previous line
};

}  // namespace mea
