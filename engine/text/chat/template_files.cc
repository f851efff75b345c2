#include <absl/strings/str_cat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "engine/storage/json.h"
#include "engine/text/chat/chat_template.h"
#include "kernels/status_macros.h"

// Where a checkpoint keeps its chat templates and the names of its special tokens.
namespace mea {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr uintmax_t kMaxConfigBytes = 64 << 20;  // added_tokens_decoder may list a whole vocabulary
constexpr size_t kMaxTemplates = 100;

absl::StatusOr<std::optional<std::string>> ReadIfThere(const fs::path& path) {
  std::error_code error;
  const uintmax_t num_bytes = fs::file_size(path, error);
  if (error) return std::nullopt;
  if (num_bytes > kMaxConfigBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path.string(), ": has ", num_bytes, " bytes, at most ", kMaxConfigBytes, " are read"));
  }
  std::ifstream file(path, std::ios::binary);
  std::string content((std::istreambuf_iterator<char>(file)), {});
  if (!file) return absl::NotFoundError(path.string() + ": cannot be read");
  return content;
}

// An object; empty where there is no such file.
absl::StatusOr<Json> ReadObjectIfThere(const fs::path& path) {
  MEA_ASSIGN_OR_RETURN(std::optional<std::string> text, ReadIfThere(path));
  if (!text.has_value()) return Json::object();
  MEA_ASSIGN_OR_RETURN(Json json, ParseJson(*text, path.string()));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(path.string() + ": is not a JSON object");
  }
  return json;
}

// A token is a string, or an object with the string and its properties.
std::optional<std::string> TokenOf(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object()) {
    if (const auto it = value.find("content"); it != value.end() && it->is_string()) {
      return it->get<std::string>();
    }
  }
  return std::nullopt;
}

void SetToken(const std::string& name, const Json& value, SpecialTokens* tokens) {
  const auto old = std::find_if(tokens->begin(), tokens->end(),
                                [&](const auto& entry) { return entry.first == name; });
  if (value.is_null()) {
    if (old != tokens->end()) tokens->erase(old);
  } else if (const std::optional<std::string> token = TokenOf(value); token.has_value()) {
    if (old != tokens->end()) {
      old->second = *token;
    } else {
      tokens->emplace_back(name, *token);
    }
  }
}

void SetTokens(const Json& object, SpecialTokens* tokens) {
  for (const auto& [name, value] : object.items()) {
    if (name.ends_with("_token")) SetToken(name, value, tokens);
    if (name == "extra_special_tokens" && value.is_object()) {
      for (const auto& [extra, token] : value.items()) SetToken(extra, token, tokens);
    }
  }
}

struct TemplateFile {
  std::string name, source, file;
};

// "chat_template" of a configuration: one template, or a list of named ones.
absl::Status AddFromConfig(const Json& config, const std::string& file,
                           std::vector<TemplateFile>* templates) {
  const auto it = config.find("chat_template");
  if (it == config.end() || it->is_null()) return absl::OkStatus();
  const std::string where = file + ": chat_template";
  if (it->is_string()) {
    templates->push_back({"default", it->get<std::string>(), where});
    return absl::OkStatus();
  }
  if (!it->is_array() && !it->is_object()) {
    return absl::InvalidArgumentError(where + " is neither a string nor a list of templates");
  }
  if (it->is_object()) {
    for (const auto& [name, source] : it->items()) {
      if (!source.is_string())
        return absl::InvalidArgumentError(where + "." + name + " is no string");
      templates->push_back({name, source.get<std::string>(), where + "." + name});
    }
    return absl::OkStatus();
  }
  for (const Json& entry : *it) {
    const bool named = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                       entry.contains("template") && entry["template"].is_string();
    if (!named) return absl::InvalidArgumentError(where + " has an entry without name or template");
    const std::string name = entry["name"].get<std::string>();
    templates->push_back({name, entry["template"].get<std::string>(), where + "." + name});
  }
  return absl::OkStatus();
}

absl::Status AddJinjaFiles(const fs::path& dir, std::vector<TemplateFile>* templates) {
  const auto add = [&](const fs::path& path, const std::string& name) -> absl::Status {
    MEA_ASSIGN_OR_RETURN(std::optional<std::string> text, ReadIfThere(path));
    if (text.has_value()) templates->push_back({name, *std::move(text), path.string()});
    return absl::OkStatus();
  };
  MEA_RETURN_IF_ERROR(add(dir / "chat_template.jinja", "default"));
  std::error_code error;
  std::vector<fs::path> more;
  for (const auto& entry : fs::directory_iterator(dir / "additional_chat_templates", error)) {
    if (entry.path().extension() == ".jinja") more.push_back(entry.path());
  }
  std::sort(more.begin(), more.end());
  for (const fs::path& path : more) {
    MEA_RETURN_IF_ERROR(add(path, path.stem().string()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SpecialTokens> ChatTemplate::LoadSpecialTokens(const std::string& model_dir) {
  const fs::path dir(model_dir);
  MEA_ASSIGN_OR_RETURN(const Json config, ReadObjectIfThere(dir / "tokenizer_config.json"));
  SpecialTokens tokens;
  SetTokens(config, &tokens);
  if (!config.contains("added_tokens_decoder")) {  // as older checkpoints have it
    MEA_ASSIGN_OR_RETURN(const Json map, ReadObjectIfThere(dir / "special_tokens_map.json"));
    SetTokens(map, &tokens);
  }
  return tokens;
}

absl::StatusOr<std::unique_ptr<const ChatTemplate>> ChatTemplate::Load(
    const std::string& model_dir) {
  const fs::path dir(model_dir);
  std::vector<TemplateFile> templates;
  MEA_RETURN_IF_ERROR(AddJinjaFiles(dir, &templates));
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    if (!templates.empty()) break;
    const fs::path path = dir / name;
    MEA_ASSIGN_OR_RETURN(const Json config, ReadObjectIfThere(path));
    MEA_RETURN_IF_ERROR(AddFromConfig(config, path.string(), &templates));
  }
  if (templates.empty()) return nullptr;
  if (templates.size() > kMaxTemplates) {
    return absl::InvalidArgumentError(absl::StrCat(model_dir, ": has ", templates.size(),
                                                   " chat templates, at most ", kMaxTemplates,
                                                   " are read"));
  }
  MEA_ASSIGN_OR_RETURN(SpecialTokens tokens, LoadSpecialTokens(model_dir));
  std::unique_ptr<ChatTemplate> result(new ChatTemplate);
  result->special_tokens_ = std::move(tokens);
  for (TemplateFile& file : templates) {
    MEA_RETURN_IF_ERROR(result->Add(file.name, std::move(file.source), file.file));
  }
  return std::unique_ptr<const ChatTemplate>(std::move(result));
}

}  // namespace mea
