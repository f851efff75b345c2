#pragma once

#include "engine/text/jinja/ast.h"

namespace mea {

// Whether a template iterates over the parts of a message's content: it has a loop over
// `message.content`, over a variable set to it, or over a macro parameter that receives it, perhaps
// through filters, slices or conditions.
bool TakesContentParts(const jinja::Program& program);

}  // namespace mea
