#pragma once

#include <string_view>

#include "engine/text/jinja/ast.h"

// The filters, tests, functions and methods that templates can name; null if there is none.
namespace mea::jinja {

FilterBody FindFilter(std::string_view name);
FilterBody FindTextFilter(std::string_view name);      // a part of FindFilter
FilterBody FindSequenceFilter(std::string_view name);  // another
TestBody FindTest(std::string_view name);
const Function* FindFunction(std::string_view name);
MethodBody FindStringMethod(std::string_view name);
MethodBody FindDictMethod(std::string_view name);
MethodBody FindListMethod(std::string_view name);

}  // namespace mea::jinja
