#pragma once

#include "engine/text/jinja/ast.h"

namespace mea {

// Whether a template goes through the parts of a message's content: it has a loop over
// `message.content`, over a variable that was set to it, or over a parameter of a macro that is
// given it, each perhaps through filters, slices or conditions.
bool TakesContentParts(const jinja::Program& program);

}  // namespace mea
