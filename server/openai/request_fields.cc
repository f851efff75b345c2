#include "server/openai/request_fields.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/request_ranges.h"

namespace mea::openai {
namespace {

constexpr FieldRange kPromptLogprobsRange{"prompt_logprobs", 0, 20};

void ReadLogitBias(JsonReader& reader, v1::SamplingParams& to) {
  const Json* biases = reader.Object("logit_bias");
  if (biases == nullptr) return;
  for (const auto& [key, value] : biases->items()) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(key, &id)) {
      reader.Invalid("logit_bias",
                     absl::StrCat("has the key \"", key.substr(0, 32), "\", which is no token id"));
    } else if (!value.is_number()) {
      reader.WrongType(absl::StrCat("logit_bias[\"", id, "\"]"), value, "a number");
    } else {
      (*to.mutable_logit_bias())[id] = value.get<float>();
    }
  }
}

void ReadSampling(JsonReader& reader, v1::SamplingParams& to) {
  if (const auto v = reader.Number("temperature")) to.set_temperature(static_cast<float>(*v));
  if (const auto v = reader.Number("top_p")) to.set_top_p(static_cast<float>(*v));
  if (const auto v = reader.Number("min_p")) to.set_min_p(static_cast<float>(*v));
  // -1 is vLLM's "all".
  if (const auto v = reader.Int("top_k")) to.set_top_k(*v == -1 ? 0 : *v);
  if (const auto v = reader.Number("repetition_penalty")) {
    to.set_repetition_penalty(static_cast<float>(*v));
  }
  if (const auto v = reader.Number("presence_penalty")) {
    to.set_presence_penalty(static_cast<float>(*v));
  }
  if (const auto v = reader.Number("frequency_penalty")) {
    to.set_frequency_penalty(static_cast<float>(*v));
  }
  if (const auto v = reader.Seed("seed")) to.set_seed(*v);
  if (const auto v = reader.Int("n")) to.set_n(*v);
  ReadLogitBias(reader, to);
  for (const int32_t id : reader.Ints("allowed_token_ids")) to.add_allowed_token_ids(id);
}

void ReadStopping(JsonReader& reader, v1::StoppingParams& to) {
  if (const Json* stop = reader.Find("stop")) {
    if (stop->is_string()) {
      to.add_stop(stop->get<std::string>());
    } else if (!stop->is_array()) {
      reader.WrongType("stop", *stop, "a string or a list of strings");
    } else {
      for (std::string& string : reader.Strings("stop")) to.add_stop(std::move(string));
    }
  }
  if (const auto v = reader.Int("min_tokens")) to.set_min_tokens(*v);
  for (const int32_t id : reader.Ints("stop_token_ids")) to.add_stop_token_ids(id);
  if (const auto v = reader.Bool("ignore_eos")) to.set_ignore_eos(*v);
  if (const auto v = reader.Bool("include_stop_str_in_output")) to.set_include_stop(*v);
}

// vLLM's {"json": ..., "regex": ..., "choice": [...], "grammar": ..., "json_object": true}, with
// `prefix` before each name: "guided_json".
void ReadGuided(JsonReader& reader, const std::string& prefix, v1::GenerateRequest& to,
                ParamNames& names) {
  const auto set = [&](const std::string& name) {
    if (to.has_structured_output()) {
      reader.Invalid(name, "is a second structured output; one is possible");
    }
    names.emplace_back("structured_output", reader.PathOf(name));
    return to.mutable_structured_output();
  };
  if (const Json* schema = reader.Find(prefix + "json")) {
    if (!schema->is_object() && !schema->is_string() && !schema->is_boolean()) {
      reader.WrongType(prefix + "json", *schema, "a JSON Schema");
    }
    set(prefix + "json")->set_json_schema(SchemaText(*schema));
  }
  if (const auto regex = reader.String(prefix + "regex")) set(prefix + "regex")->set_regex(*regex);
  if (reader.Has(prefix + "choice")) {
    v1::StructuredOutput& output = *set(prefix + "choice");
    output.mutable_choice();
    for (std::string& value : reader.Strings(prefix + "choice")) {
      output.mutable_choice()->add_values(std::move(value));
    }
  }
  if (const auto grammar = reader.String(prefix + "grammar")) {
    set(prefix + "grammar")->set_grammar(*grammar);
  }
  if (reader.Bool(prefix + "json_object").value_or(false)) {
    set(prefix + "json_object")->set_json_object(true);
  }
  if (const auto tag = reader.String(prefix + "structural_tag")) {
    set(prefix + "structural_tag")->set_structural_tag(*tag);
  }
}

void ReadToolChoice(JsonReader& reader, v1::Chat& to) {
  const Json* choice = reader.Find("tool_choice");
  if (choice == nullptr) return;
  if (choice->is_string()) {
    const auto mode = reader.OneOf("tool_choice", {"none", "auto", "required"});
    if (mode == "none") to.set_tool_choice(v1::TOOL_CHOICE_NONE);
    if (mode == "auto") to.set_tool_choice(v1::TOOL_CHOICE_AUTO);
    if (mode == "required") to.set_tool_choice(v1::TOOL_CHOICE_REQUIRED);
    return;
  }
  if (reader.Object("tool_choice") == nullptr) return;
  JsonReader inside = reader.Inside(*choice, "tool_choice");
  if (!inside.OneOf("type", {"function"}) && reader.complaint().ok()) {
    inside.Invalid("type", "is not set; \"function\" is expected");
  }
  // Chat completions wrap the name, responses do not.
  const Json* function = inside.Object("function");
  JsonReader holder = function == nullptr ? inside : inside.Inside(*function, "function");
  const auto name = holder.String("name");
  if (!name || name->empty()) return holder.Invalid("name", "is empty");
  to.set_tool_choice(v1::TOOL_CHOICE_REQUIRED);
  to.set_tool_name(*name);
}

}  // namespace

std::string SchemaText(const Json& schema) {
  return schema.is_string() ? schema.get<std::string>() : Dump(schema);
}

void ReadCommonFields(JsonReader& reader, v1::GenerateRequest& to, ParamNames& names) {
  if (const auto model = reader.String("model")) to.set_model(*model);
  ReadSampling(reader, *to.mutable_sampling());
  ReadStopping(reader, *to.mutable_stopping());
  if (const auto v = reader.Int("priority")) to.set_priority(*v);
  if (const auto salt = reader.String("cache_salt")) to.mutable_cache()->set_cache_salt(*salt);
  if (const auto v = reader.Bool("bypass_prefix_cache")) {
    to.mutable_cache()->set_bypass_prefix_cache(*v);
  }
  names.emplace_back("stopping.include_stop", "include_stop_str_in_output");
  // Parameters of vLLM that cannot be ignored: the answer would differ.
  reader.NotServed("bad_words", "logit_bias forbids tokens");
  reader.NotServed("use_beam_search", "");
  reader.NotServed("truncate_prompt_tokens", "");
}

void ReadStreamFields(JsonReader& reader, ParsedRequest& to) {
  to.stream = reader.Bool("stream").value_or(false);
  if (reader.Has("stream_options") && !to.stream) {
    reader.Invalid("stream_options", "needs \"stream\": true");
  }
  if (const auto seconds = reader.Number("timeout")) {
    if (*seconds > 0 && std::isfinite(*seconds)) {
      to.timeout = absl::Seconds(*seconds);
    } else {
      reader.Invalid("timeout", absl::StrCat(*seconds, " is no number of seconds above 0"));
    }
  }
}

PromptReport ReadPromptReport(JsonReader& reader, bool stream, v1::ResponseParams& to) {
  PromptReport report;
  report.token_ids = reader.Bool("return_token_ids").value_or(false);
  to.set_prompt_token_ids(report.token_ids);
  const auto num_top = reader.Int("prompt_logprobs");
  if (!num_top) return report;
  report.logprobs = true;
  if (absl::Status range = CheckRange(kPromptLogprobsRange, *num_top); !range.ok()) {
    reader.Refuse(std::move(range));
  }
  if (stream)
    reader.Invalid("prompt_logprobs", "goes with a whole answer alone, not with a stream");
  to.set_prompt_logprobs(true);
  to.set_logprobs(std::max(to.logprobs(), *num_top));
  return report;
}

void ReadResponseFormat(JsonReader& format, const Json& schema_holder, const std::string& param,
                        v1::GenerateRequest& to, ParamNames& names) {
  const auto type = format.OneOf("type", {"text", "json_object", "json_schema", "structural_tag"});
  if (!type) {
    if (format.complaint().ok()) format.Invalid("type", "is not set");
    return;
  }
  if (*type == "text") return;
  if (to.has_structured_output()) {
    format.Invalid("type", "is a second structured output; one is possible");
    return;
  }
  v1::StructuredOutput& output = *to.mutable_structured_output();
  names.emplace_back("structured_output", param);
  if (*type == "json_object") {
    output.set_json_object(true);
  } else if (*type == "json_schema") {
    const auto schema = schema_holder.find("schema");
    if (schema == schema_holder.end() || !(schema->is_object() || schema->is_boolean())) {
      format.Invalid("json_schema", "has no \"schema\"; a JSON Schema is expected");
      return;
    }
    output.set_json_schema(Dump(*schema));
  } else {
    output.set_structural_tag(Dump(schema_holder));
  }
}

void ReadGuidedFields(JsonReader& reader, v1::GenerateRequest& to, ParamNames& names) {
  ReadGuided(reader, "guided_", to, names);
  if (const Json* outputs = reader.Object("structured_outputs")) {
    JsonReader inside = reader.Inside(*outputs, "structured_outputs");
    ReadGuided(inside, "", to, names);
  }
}

void ReadStructuredOutput(JsonReader& reader, v1::GenerateRequest& to, ParamNames& names) {
  ReadGuidedFields(reader, to, names);
  const Json* format = reader.Object("response_format");
  if (format == nullptr) return;
  JsonReader inside = reader.Inside(*format, "response_format");
  const Json* wrapped = inside.Object("json_schema");
  ReadResponseFormat(inside, wrapped == nullptr ? *format : *wrapped, "response_format", to, names);
}

void ReadTools(JsonReader& reader, v1::Chat& to, ParamNames& names) {
  reader.NotServed("functions", "send tools");
  reader.NotServed("function_call", "send tool_choice");
  if (const Json* tools = reader.Array("tools")) {
    for (size_t i = 0; i < tools->size(); ++i) {
      const Json& tool = (*tools)[i];
      const std::string name = absl::StrCat("tools[", i, "]");
      if (!tool.is_object()) return reader.WrongType(name, tool, "an object");
      JsonReader inside = reader.Inside(tool, name);
      if (!inside.OneOf("type", {"function"}) && reader.complaint().ok()) {
        inside.Invalid("type", "is not set; \"function\" is expected");
      }
      const Json* function = inside.Object("function");
      if (function == nullptr) return inside.Invalid("function", "is not set");
      JsonReader holder = inside.Inside(*function, "function");
      if (holder.String("name").value_or("").empty()) holder.Invalid("name", "is not set");
      holder.Object("parameters");
      to.add_tools(Dump(tool));
    }
  }
  ReadToolUse(reader, to, names);
}

void ReadToolUse(JsonReader& reader, v1::Chat& to, ParamNames& names) {
  ReadToolChoice(reader, to);
  if (const auto v = reader.Bool("parallel_tool_calls")) to.set_parallel_tool_calls(*v);
  names.emplace_back("chat.tool_name", "tool_choice");
}

AnswerInfo MakeAnswerInfo(const std::string& id, const Serving& serving,
                          const v1::GenerateRequest& request, int num_prompts) {
  return {
      .id = id,
      .model = serving.model_name,
      .created = absl::ToUnixSeconds(absl::Now()),
      .num_prompts = num_prompts,
      // A larger number is refused before this one is used.
      .n = std::clamp(request.sampling().has_n() ? request.sampling().n() : 1, 1, kMaxCompletions)};
}

}  // namespace mea::openai
