#pragma once

#include "server/http/http_server.h"
#include "server/serving.h"

namespace mea::openai {

HttpAnswer ListModels(const Serving& serving);                                 // GET /v1/models
HttpAnswer RetrieveModel(const HttpRequest& request, const Serving& serving);  // and one of them
HttpAnswer TokenizerInfo(const Serving& serving);  // GET /tokenizer_info

}  // namespace mea::openai
