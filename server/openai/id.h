#pragma once

#include <string>

namespace mea::openai {

// 24 random hexadecimal digits, as ids of OpenAI end.
std::string RandomHex24();

}  // namespace mea::openai
