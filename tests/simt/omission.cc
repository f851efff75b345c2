#include "tests/simt/omission.h"

#include <functional>
#include <map>
#include <string_view>
#include <utility>

namespace mea::simt {
namespace {

using Place = std::pair<const void*, unsigned>;  // file and line, or the return address

struct Record {
  bool is_active = false;
  std::string omitted;
  std::map<Place, bool> is_omitted;
  std::vector<std::string> names;
  std::map<std::string, int> num_places;  // of a name
};

Record& TheRecord() {
  static Record record;
  return record;
}

bool Note(const Place& place, const std::function<std::string()>& name_of) {
  Record& record = TheRecord();
  const auto [known, is_new] = record.is_omitted.try_emplace(place, false);
  if (is_new) {
    std::string name = name_of();
    const int count = ++record.num_places[name];
    if (count > 1) name.append(" ").append(std::to_string(count));
    known->second = name == record.omitted;
    record.names.push_back(name);
  }
  return known->second;
}

// void mea::cuda::{anonymous}::Worker<head_dim>::Begin(int) [with int head_dim = 64] -> Begin
std::string FunctionOf(const Where& where) {
  std::string_view name = where.function_name();
  name = name.substr(0, name.find('('));
  const size_t scope = name.rfind("::");
  if (scope != std::string_view::npos) name = name.substr(scope + 2);
  return std::string(name.substr(0, name.find('<')));
}

}  // namespace

void OmitCalls(const std::string& name) { TheRecord() = {.is_active = true, .omitted = name}; }

std::vector<std::string> TakeRecordedCalls() { return std::exchange(TheRecord(), Record()).names; }

bool IsOmitted(const char* primitive, const Where& where) {
  if (!TheRecord().is_active) return false;
  return Note({where.file_name(), where.line()},
              [&] { return std::string(primitive) + " in " + FunctionOf(where); });
}

bool IsOmitted(const char* primitive, const void* return_address) {
  if (!TheRecord().is_active) return false;
  return Note({return_address, 0}, [&] { return std::string(primitive); });
}

}  // namespace mea::simt
