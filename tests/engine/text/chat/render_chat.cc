// Renders conversations: one JSON object per line in, one out. For tools/check_chat_templates.py,
// which compares with transformers.
//   {"template", "special_tokens": {}, "messages", "tools"?, "documents"?, "kwargs"?,
//    "add_generation_prompt"?, "continue_final_message"?, "now"? (seconds)}
//   {"text", "inputs": [[begin, end], ...], "takes_parts"} or {"error"}
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/engine/text/chat/chat_case.h"

int main() {
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) {
    const auto request = nlohmann::ordered_json::parse(line, nullptr, false);
    if (!request.is_object()) {
      std::cerr << "a line is not a JSON object\n";
      return 1;
    }
    std::cout << mea::RenderCase(request).dump(-1, ' ', true) << "\n" << std::flush;
  }
}
