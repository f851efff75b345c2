#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace mea {

// The JSON types that the parameters of a request's tools may have, for formats that write every
// value as plain text. Immutable.
class ParameterTypes {
 public:
  enum Type : uint8_t {
    kNull = 1,
    kInteger = 2,
    kNumber = 4,
    kBoolean = 8,
    kObject = 16,
    kArray = 32,
    kString = 64,
    kWord = 128,  // listed, or with a pattern or format: blanks around it are layout
  };

  ParameterTypes() = default;

  // `tools`: the array of an OpenAI request, [{"type": "function", "function": {"name",
  // "parameters"}}]. INVALID_ARGUMENT names what is wrong with it.
  static absl::StatusOr<ParameterTypes> Read(std::string_view tools);

  // A set of Type; kString if nothing is known.
  uint8_t Of(const std::string& tool, const std::string& parameter) const;

 private:
  std::map<std::string, std::map<std::string, uint8_t>> types_;
};

namespace reply {

// `text`, which a model wrote as the value of a parameter, as JSON: the first of null, integer,
// number, boolean, object, array, string and word that `types` allows and the text fits; if none
// fits, the text as JSON, or else as a string.
std::string JsonOfText(std::string_view text, uint8_t types);

}  // namespace reply
}  // namespace mea
