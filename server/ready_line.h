#pragma once

#include <string>

#include "server/serving.h"

namespace mea {

// The line that `serve` prints when it is ready. An empty address is off.
std::string ReadyLine(const Serving& serving, const std::string& listen, const std::string& admin,
                      const std::string& http, bool has_tls);

}  // namespace mea
