#pragma once

#include <string>

namespace mea::openai {

// 24 random hexadecimal digits, the end of OpenAI's ids.
std::string RandomHex24();

}  // namespace mea::openai
