// Apart from build_info.cc: all that a commit compiles anew.
#include "server/build_info.h"
#include "server/version_text.h"

namespace mea {

std::string Version() { return MEA_VERSION; }

}  // namespace mea
