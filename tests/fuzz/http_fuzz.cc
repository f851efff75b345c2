// The bytes of a connection, whole and cut: the same requests.
#include <string>
#include <vector>

#include "server/http/request_parser.h"
#include "tests/fuzz/fuzz.h"

namespace {

constexpr int kMaxHeaderBytes = 1 << 10;
constexpr int64_t kMaxBodyBytes = 1 << 12;

struct Parsed {
  bool done = false;
  bool refused = false;
  std::string path;
  std::string body;
  size_t num_headers = 0;

  bool operator==(const Parsed&) const = default;
};

Parsed Parse(std::string_view bytes, size_t step) {
  mea::RequestParser parser(kMaxHeaderBytes, kMaxBodyBytes);
  Parsed parsed;
  while (!bytes.empty() && !parsed.done && !parsed.refused) {
    std::string_view piece = bytes.substr(0, step);
    bytes.remove_prefix(piece.size());
    parsed.refused = !parser.Put(piece);
    parsed.done = parser.is_done();
  }
  if (parsed.done && !parsed.refused) {
    parsed.path = parser.request().path;
    parsed.body = parser.request().body;
    parsed.num_headers = parser.request().headers.size();
  }
  mea::fuzz::Require(!parsed.refused || parser.refusal().code >= 400, "a refusal has a status");
  return parsed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = mea::fuzz::Input(data, size).Rest();
  const Parsed whole = Parse(bytes, bytes.size() + 1);
  for (const size_t step : {1, 7}) {
    const Parsed cut = Parse(bytes, step);
    // Where both end, they agree; a cut may only show earlier that a request is refused.
    if (whole.done && !whole.refused) {
      mea::fuzz::Require(cut == whole, "a request does not depend on how it comes");
    }
  }
  return 0;
}
